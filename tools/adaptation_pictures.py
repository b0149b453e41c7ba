#!/usr/bin/env python3
"""Draw what a segmentor predicts before and after adaptation.

python tools/adaptation_pictures.py CONFIG BEFORE.pth AFTER.pth [--output FILE.png]
    [--num-images N]
"""

from dynbackbones.integrations import launch


def main() -> None:
    launch.check_installed("openmmlab")
    from dynbackbones.integrations.openmmlab import adaptation_pictures

    adaptation_pictures.main()


if __name__ == "__main__":
    launch.run(main)
