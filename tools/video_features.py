#!/usr/bin/env python3
"""``dynbackbones video-features`` from a checkout."""

from dynbackbones.cli.main import main

if __name__ == "__main__":
    main("video-features")
