#!/usr/bin/env python3
"""``dynbackbones adaptation-pictures`` from a checkout."""

from dynbackbones.cli.main import main

if __name__ == "__main__":
    main("adaptation-pictures")
