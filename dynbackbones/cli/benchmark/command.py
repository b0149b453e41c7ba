"""A run of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dynbackbones.analysis.latency import compare
from dynbackbones.analysis.latency_plot import plot_latency
from dynbackbones.cli.benchmark import networks, report
from dynbackbones.cli.benchmark.options import parse_args
from dynbackbones.cli.benchmark.spending import measure_spending
from dynbackbones.training.progress import show_rounds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures as the command line says, prints tables and writes files.

    Raises:
        UserError: the input is at fault.
    """
    args = parse_args(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.device == "cuda":
        # cuDNN tries its kernels for each shape before the measured rounds.
        torch.backends.cudnn.benchmark = True
    if args.calibrate:
        measure_spending(args)
        return
    nets, images = networks.build(args), networks.images_for(args)
    timings = compare(
        nets,
        images,
        rates=args.rates,
        executions=args.execution,
        repeats=args.repeats,
        warmup=args.warmup,
        selection=args.selection,
        seed=args.seed,
        progress=show_rounds,
    )
    fits = report.usage_fits(timings, nets)
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
