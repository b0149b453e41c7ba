#!/usr/bin/env python3
"""``dynbackbones train-net`` from a checkout."""

from dynbackbones.cli.main import main

if __name__ == "__main__":
    main("train-net")
