"""``dynbackbones spatial-context``: what spatial context networks learn, beside controls."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dynbackbones.cli.arguments import parse
from dynbackbones.experiments.context import report, shapes
from dynbackbones.experiments.context.drawing import draw
from dynbackbones.experiments.steps import write_tables


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description="Train context modules at a scale for CPUs: pairs of shapes in which a patch "
        "and the offset tell the other patch. Finished steps are not run again: an interrupted "
        "experiment continues."
    )
    options.add_argument(
        "--output", required=True, metavar="FOLDER", help="steps, tables and a picture"
    )
    options.add_argument("--seeds", nargs="+", type=int, default=[0])
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, writes a table after each seed, and a picture if there is none.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(parser(), arguments)
    output, results = Path(args.output), {}
    for seed in args.seeds:
        results[seed] = shapes.run(output, seed)
        text = write_tables(output, "spatial_context", results, report.shapes_table(results))
    print(text)
    picture = output / "spatial_context_pixels.png"
    if not picture.exists():
        draw(picture, args.seeds[0])
