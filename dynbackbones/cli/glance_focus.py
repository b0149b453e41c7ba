"""``dynbackbones glance-focus``: Glance and Focus on digits anywhere, beside other crops."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dynbackbones.cli.arguments import add_bfloat16, experiment_parser, parse
from dynbackbones.experiments.glance_focus import stages
from dynbackbones.experiments.glance_focus.drawing import draw
from dynbackbones.experiments.glance_focus.report import markdown
from dynbackbones.experiments.steps import write_tables


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = experiment_parser(
        "Train Glance and Focus at a scale for CPUs: a small digit anywhere in scenes of 64 x 64 "
        "pixels, crops of 24.",
        "steps, tables and a picture",
    )
    add_bfloat16(options)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, and writes a table after each seed and a picture at the end.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(parser(), arguments)
    output, results = Path(args.output), {}
    plan = replace(stages.PLAN, bfloat16=args.bfloat16)
    for seed in args.seeds:
        results |= stages.run(output, [seed], plan)
        text = write_tables(output, "glance_focus", results, markdown(results))
    print(text)
    draw(stages.experiment(output, args.seeds[0], plan), output / "glance_focus.png")
