#!/usr/bin/env python3
"""Train BlockDrop's three stages with several seeds and compare its policies with fixed ones.

python tools/blockdrop_table.py --configs PLAIN CURRICULUM JOINT --work-dir FOLDER
    [--seeds 0 1 2] [--finetune first random distributed best] [--cfg-options KEY=VALUE ...]

Finished cells are not run again. Results: FOLDER/table.json and FOLDER/table.md.
"""

from dynbackbones.integrations import launch


def main() -> None:
    launch.check_installed("openmmlab")
    from dynbackbones.integrations.openmmlab import classification_table

    classification_table.main()


if __name__ == "__main__":
    launch.run(main)
