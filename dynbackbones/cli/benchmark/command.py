"""A run of the benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from dynbackbones.analysis.candidates import make_ready
from dynbackbones.analysis.latency import Timing, compare
from dynbackbones.analysis.latency_plot import plot_latency
from dynbackbones.analysis.workers import compare_in_workers
from dynbackbones.cli.arguments import check_folder, check_output
from dynbackbones.cli.benchmark import networks, opponents, report
from dynbackbones.cli.benchmark.options import parse_args
from dynbackbones.cli.benchmark.spending import measure_spending
from dynbackbones.errors import UserError
from dynbackbones.training.progress import show_rounds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures as the command line says, prints tables and writes files.

    Raises:
        UserError: the input is at fault.
    """
    args = parse_args(arguments)
    if args.json is not None:
        check_output(args.json, [".json"], overwrite=True)
    if args.plot is not None:
        check_folder(args.plot)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.device == "cuda":
        # cuDNN tries its kernels for each shape before the measured rounds.
        torch.backends.cudnn.benchmark = True
    if args.calibrate:
        measure_spending(args)
        return
    nets, images = networks.build(args), networks.images_for(args)
    timings = _in_workers(nets, images, args) if args.opponents else _here(nets, images, args)
    fits = report.usage_fits(timings)
    report.print_timings(timings, args)
    if args.memory:
        report.print_memory(nets, images, args)
    if args.breakdown:
        report.print_breakdown(nets, images, args)
    if fits:
        print("\n" + "\n".join(map(report.describe_fit, fits)))
    if args.json is not None:
        report.write_json(args.json, report.to_dict(timings, fits, args))
    if args.plot is not None:
        plot_latency(timings, args.plot)


def _choices(args: argparse.Namespace) -> dict[str, Any]:
    names = {"rates": "rates", "executions": "execution", "selection": "selection", "seed": "seed"}
    return {name: getattr(args, option) for name, option in names.items()}


def _rounds(args: argparse.Namespace) -> dict[str, Any]:
    return {"repeats": args.repeats, "warmup": args.warmup, "progress": show_rounds}


def _here(nets, images, args: argparse.Namespace) -> list[Timing]:
    return compare(nets, images, **_choices(args), **_rounds(args))


def _in_workers(nets, images, args: argparse.Namespace) -> list[Timing]:
    """Each network and each opponent in a process of its own, the fastest static one first.

    That is the fastest of those that compute in the same type.
    """
    first = next(iter(nets))
    prepare = {
        name: partial(make_ready, name, net, images, **_choices(args))
        for name, net in nets.items()
    }
    plain = networks.opponent_of(first, args)
    for name in args.opponents:
        title = _title(first, name)
        prepare[title] = partial(opponents.prepare_opponent, name, title, plain, images)
    timings, failures = compare_in_workers(
        prepare,
        threads=args.threads,
        started=lambda name: print(f"preparing {name}", flush=True),
        **_rounds(args),
    )
    for failure in failures:
        print(f"left out: {failure.name}: {failure.reason}")
    if not timings:
        raise UserError("nothing could be measured, see the lines above")
    context = {
        _title(first, name) for name in args.opponents if not opponents.OPPONENTS[name].same_type
    }
    static = [
        timing
        for timing in timings
        if timing.candidate.rate is None and timing.candidate.backbone not in context
    ]
    strongest = min(static, key=lambda timing: timing.median)
    return [strongest, *(timing for timing in timings if timing is not strongest)]


def _title(network: str, opponent: str) -> str:
    return f"{network}, {opponent}"
