#!/usr/bin/env python3
"""Give a checkpoint the names of another library.

python tools/convert_checkpoint.py SOURCE --to LIBRARY -o OUT [--from LIBRARY] [--backbone NAME]
    [--prefix PREFIX] [--no-classifier] [--stride-in-1x1] [--overwrite] [--verbose]
"""

from dynbackbones.integrations import convert, launch

if __name__ == "__main__":
    launch.run(convert.main)
