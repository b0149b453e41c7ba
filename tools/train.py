#!/usr/bin/env python3
"""Train a config of mmseg, mmpretrain or mmdet with a dynamic backbone: mmengine's command line.

python tools/train.py CONFIG [--work-dir FOLDER] [--resume [CHECKPOINT]] [--amp]
    [--launcher pytorch] [--cfg-options KEY=VALUE ...]
"""

from dynbackbones.integrations import launch


def main() -> None:
    launch.check_installed("openmmlab")
    from dynbackbones.integrations.openmmlab.launch import train

    train()


if __name__ == "__main__":
    launch.run(main)
