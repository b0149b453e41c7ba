#!/usr/bin/env python3
"""``dynbackbones spatial-context`` from a checkout."""

from dynbackbones.cli.main import main

if __name__ == "__main__":
    main("spatial-context")
