"""``python -m dynbackbones``: the command ``dynbackbones``."""

from dynbackbones.cli.main import main

if __name__ == "__main__":
    main()
