"""``dynbackbones patchdrop``: PatchDrop's experiments, each beside its baselines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dynbackbones.cli.arguments import add_bfloat16, experiment_parser, parse
from dynbackbones.errors import UserError
from dynbackbones.experiments.patchdrop import bagnet, cifar, digits
from dynbackbones.experiments.patchdrop.report import markdown, sigma_table
from dynbackbones.experiments.steps import write_tables

EXPERIMENTS = {"digits": digits, "cifar": cifar, "bagnet": bagnet}


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = experiment_parser("Train PatchDrop's stages and its baselines at a scale for CPUs.")
    options.add_argument(
        "experiment",
        choices=tuple(EXPERIMENTS),
        help="digits: a small digit anywhere; cifar: CIFAR-10; bagnet: the conditional BagNet and "
        "hard positives, with the output folder of digits",
    )
    options.add_argument(
        "--data", metavar="FOLDER", help="of cifar: train.npz and val.npz with "
        "labels, data (encoded images one after another) and offsets (where each begins)",
    )
    options.add_argument(
        "--sigmas",
        nargs="+",
        type=float,
        metavar="S",
        help="of digits: train the policy once more with each of these penalties of a wrong "
        "prediction, and tell how many patches it then asks for",
    )
    add_bfloat16(options)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, and writes a table after each seed.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(parser(), arguments)
    if (args.data is not None) != (args.experiment == "cifar"):
        raise UserError(
            f"--data goes with cifar, and cifar needs it; got {args.experiment} and "
            f"--data {args.data}"
        )
    if args.sigmas and args.experiment != "digits":
        raise UserError(f"--sigmas goes with digits, got {args.experiment}")
    if args.sigmas and len(args.seeds) > 1:
        raise UserError(f"--sigmas takes one seed, got --seeds {' '.join(map(str, args.seeds))}")
    module, output, results = EXPERIMENTS[args.experiment], Path(args.output), {}
    options = {"data": Path(args.data)} if args.data else {}
    plan = replace(module.PLAN, bfloat16=args.bfloat16)
    if args.sigmas:
        results = digits.sweep(output, args.sigmas, plan, args.seeds[0])
        print(write_tables(output, "sigmas", results, sigma_table(results)))
        return
    for seed in args.seeds:
        results |= module.run(output, [seed], plan=plan, **options)
        text = write_tables(output, args.experiment, results, markdown(results))
    print(text)
