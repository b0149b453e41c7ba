#!/usr/bin/env python3
"""Train the variants that a config names with several seeds, and compare them.

python tools/compare.py CONFIG [--work-dir FOLDER] [--seeds 0 1 2] [--variants NAME ...]
    [--cfg-options KEY=VALUE ...]

Finished cells are not run again. Results: FOLDER/table.json and FOLDER/table.md.
"""

from dynbackbones.integrations import launch


def main() -> None:
    launch.check_installed("openmmlab")
    from dynbackbones.integrations.openmmlab import comparison

    comparison.main()


if __name__ == "__main__":
    launch.run(main)
