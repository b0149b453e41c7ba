"""``dynbackbones needle``: which frames AdaFrame and LiteEval look at, beside fixed ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dynbackbones.cli.arguments import experiment_parser, parse
from dynbackbones.experiments.steps import write_tables
from dynbackbones.experiments.video import needle
from dynbackbones.experiments.video.report import markdown


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = experiment_parser(
        "Train AdaFrame and LiteEval on videos of clutter in which a digit shows in 6 of 60 "
        "frames, beside fixed choices of frames."
    )
    options.add_argument(
        "--variants",
        action="store_true",
        help="AdaFrame without memory, with positions in keys only and with other rewards too, and "
        "the curve of early stops",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, and writes a table after each seed.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(parser(), arguments)
    output = Path(args.output)
    for count in range(1, len(args.seeds) + 1):
        results = needle.run(output, args.seeds[:count], variants=args.variants)
        text = write_tables(output, "needle", results, markdown(results))
    print(text)
