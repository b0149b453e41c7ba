#!/usr/bin/env python3
"""``dynbackbones make-proposals`` from a checkout."""

from dynbackbones.cli.main import main

if __name__ == "__main__":
    main("make-proposals")
