"""The options of ``dynbackbones zoom``."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from dynbackbones.cli.arguments import parse, positive, shares
from dynbackbones.cli.engines import add_config_options
from dynbackbones.data.images import is_image
from dynbackbones.errors import UserError

RATES = (0.125, 0.25, 0.5)
_ACTIONS = {
    "gains": "run both passes over images that the detector was not trained on",
    "train": "fit a policy to what was gained; one policy serves every budget",
    "table": "evaluate on DATASETS.TEST, beside everything that one could do instead",
    "predict": "draw what was looked at, and what was found",
}
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")


def parse_args(title: str, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    Args:
        title: of the command's help.
        arguments: those of the process by default.

    Raises:
        UserError: ``--images`` is followed by no picture.
    """
    parser = argparse.ArgumentParser(
        description=title,
        epilog="Each action has a --help of its own, and takes --import MODULE.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    every = [actions.add_parser(name, help=text) for name, text in _ACTIONS.items()]
    measures, trains, tables, draws = every
    for each in every:
        add_config_options(each)
    measures.add_argument(
        "--dataset", required=True, metavar="NAME", help="that the detector was not trained on"
    )
    for each in (measures, tables):
        each.add_argument("--max-images", type=positive, help="of the dataset (default: all)")
    draws.add_argument(
        "--max-images", type=positive, help="of the dataset, without --images (default 4)"
    )
    for each in (measures, trains, tables):
        each.add_argument(
            "--gains",
            type=Path,
            metavar="FOLDER",
            help="of what was measured (default: OUTPUT_DIR/zoom/gains)",
        )
    trains.add_argument("--seed", type=int, default=0, help="of the policy (default 0)")
    trains.add_argument(
        "--output", type=Path, metavar="FILE.pth", help="default: OUTPUT_DIR/zoom/policy.pth"
    )
    _add_table_options(tables)
    draws.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="FILE",
        help="to draw (default: the first four of DATASETS.TEST)",
    )
    draws.add_argument(
        "--output", type=Path, metavar="FILE.png", help="default: OUTPUT_DIR/zoom/patches.png"
    )
    for each in every:
        each.add_argument(
            "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config overrides, last"
        )
    args = parse(parser, arguments, every)
    if args.action == "predict":
        args.images, behind = _pictures_and_overrides(args.images)
        args.opts = [*behind, *args.opts]
    return args


def _pictures_and_overrides(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """What ``--images`` took, of which config keys and their values may be the last.

    Raises:
        UserError: nothing is a picture.
    """
    keys = (i for i, word in enumerate(words) if _KEY.fullmatch(word) and not is_image(word))
    first = next(keys, len(words))
    if words and first == 0:
        raise UserError(f"--images names no picture before {words[0]}; name one, or leave it out")
    return [Path(word) for word in words[:first]], list(words[first:])


def _add_table_options(tables: argparse.ArgumentParser) -> None:
    tables.add_argument(
        "--rates",
        type=shares,
        default=RATES,
        metavar="R,R",
        help="shares of patches (default 0.125,0.25,0.5)",
    )
    tables.add_argument(
        "--seeds",
        type=lambda text: [int(part) for part in text.split(",")],
        default=(0, 1, 2),
        metavar="S,S",
        help="of policies (default 0,1,2)",
    )
    tables.add_argument(
        "--timed", type=positive, default=10, metavar="N", help="images to time (default 10)"
    )
    tables.add_argument(
        "--reinforce",
        action="store_true",
        help="rows of policies that the policy gradient trained, one for each rate",
    )
    tables.add_argument(
        "--sahi", action="store_true", help="a row with the slices of the library sahi"
    )
