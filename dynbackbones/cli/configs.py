"""``dynbackbones configs``: what configs there are, and copies of them to edit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dynbackbones.cli.arguments import parse
from dynbackbones.integrations.shipped_configs import (
    FOLDER,
    copy_configs,
    shipped_configs,
    shipped_folder,
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description="List the configs that come with the package. Every command finds them by "
        "these names from any folder; a file of that name in the current folder counts instead."
    )
    options.add_argument(
        "--copy", metavar="FOLDER", help="copy all of them to edit; no file is overwritten"
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Lists or copies them.

    Raises:
        UserError: a copy is not possible.
    """
    args = parse(parser(), arguments)
    if args.copy is not None:
        print(f"{copy_configs(args.copy)} files copied to {args.copy}")
        return
    for name in shipped_configs():
        if "_base_" not in name.parts and not name.stem.startswith(("Base-", "README")):
            print(f"{FOLDER}/{name}")
    print(f"\nin {shipped_folder()}, whose README.md says what is what")
