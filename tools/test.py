#!/usr/bin/env python3
"""Test a checkpoint of mmseg, mmpretrain or mmdet with a dynamic backbone.

python tools/test.py CONFIG CHECKPOINT [--work-dir FOLDER] [--tta] [--launcher pytorch]
    [--cfg-options KEY=VALUE ...]
"""

from dynbackbones.integrations import launch


def main() -> None:
    launch.check_installed("openmmlab")
    from dynbackbones.integrations.openmmlab.launch import test

    test()


if __name__ == "__main__":
    launch.run(main)
