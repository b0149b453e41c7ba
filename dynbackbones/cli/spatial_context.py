"""``dynbackbones spatial-context``: what spatial context networks learn, beside controls."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dynbackbones.cli.arguments import experiment_parser, parse
from dynbackbones.errors import UserError
from dynbackbones.experiments.context import digits, report, shapes
from dynbackbones.experiments.context.drawing import draw
from dynbackbones.experiments.context.streets import StreetExperiment
from dynbackbones.experiments.steps import write_tables

PARTS = ("shapes", "digits", "streets")


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = experiment_parser(
        "Train context modules at a scale for CPUs, beside controls: on shapes, on digits whose "
        "places tell of each other or nothing, and on patches of street scenes.",
        "steps, tables and a picture",
    )
    options.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=["shapes", "digits"],
        help="which of the experiments (default: shapes digits)",
    )
    options.add_argument(
        "--camvid", metavar="FOLDER", help="img_dir, ann_dir and splits, for streets"
    )
    options.add_argument(
        "--teacher",
        metavar="FILE.pth",
        help="weights of EfficientNet-Lite0, for streets; the network is timm's",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, writes tables after each seed, and a picture if there is none.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(parser(), arguments)
    output, text = Path(args.output), ""
    if "streets" in args.parts:
        for name in ("camvid", "teacher"):
            if getattr(args, name) is None:
                raise UserError(f"--parts streets needs --{name}")
    results: dict[str, dict] = {part: {} for part in args.parts}
    for seed in args.seeds:
        for part in args.parts:
            results[part][seed] = _run(part, args, seed)
            text = write_tables(output, "spatial_context", results, report.markdown(results))
    print(text)
    picture = output / "spatial_context_pixels.png"
    if "shapes" in args.parts and not picture.exists():
        draw(picture, args.seeds[0])


def _run(part: str, args: argparse.Namespace, seed: int) -> dict:
    output = Path(args.output)
    if part == "shapes":
        return shapes.run(output, seed)
    if part == "digits":
        return {
            layout: digits.DigitExperiment(output, layout, seed).run() for layout in digits.LAYOUTS
        }
    return StreetExperiment(output, Path(args.camvid), args.teacher, seed).run()
