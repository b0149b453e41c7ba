"""What the benchmark prints and writes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dynbackbones
from dynbackbones.analysis.breakdown import breakdown
from dynbackbones.analysis.latency import Timing
from dynbackbones.analysis.latency_report import break_even_rate, fit_usage, latency_table
from dynbackbones.analysis.memory import peak_memory
from dynbackbones.cli.benchmark.options import TREATMENTS

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "sve", "bf16")
Nets = Mapping[str, nn.Module]
Fit = dict[str, str | float]


def print_timings(timings: Sequence[Timing], args: argparse.Namespace) -> None:
    """What was measured and how, the table, and where sparse execution stops to pay."""
    where = _card(args) or f"{args.threads} thread(s)"
    height, width = args.size
    print(
        f"{args.batch_size} x 3 x {height} x {width} on {args.device} ({where}), "
        f"torch {torch.__version__}, median of {args.repeats} interleaved rounds"
    )
    ours = "all of ours" if args.opponents else "all backbones"
    print(
        f"{ours}: {_treatment(args)}; {args.selection} regions or blocks; MACs for each image"
    )
    if args.opponents:
        print(
            "each in a process of its own on the same cores, asked in turn; ratios are to the "
            f"fastest static one; processor: {', '.join(processor_flags()) or 'no vector flags'}"
        )
    print(f"\n{latency_table(timings)}")
    for name in dict.fromkeys(timing.candidate.backbone for timing in timings):
        rate = break_even_rate(timings, name)
        if rate is not None:
            print(f"\n{name}: sparse execution is faster than masked up to a rate of {rate:.2f}")


def processor_flags() -> list[str]:
    """What this processor has of the instructions that decide which type is fast."""
    file = Path("/proc/cpuinfo")
    words = set(file.read_text().split()) if file.exists() else set()
    return [name for name in FLAGS if name in words]


def print_memory(nets: Nets, images: Tensor, args: argparse.Namespace) -> None:
    """The peak memory of each backbone, at the first of the rates and executions."""
    execution, rate = args.execution[0], args.rates[0]
    print(f"\npeak memory beyond network and images, {execution} at rate {rate}:")
    reference = None
    for name, net in nets.items():
        peak = peak_memory(net, images, execution=execution, selection=args.selection, rate=rate)
        reference = reference or peak
        print(f"{name}: {peak / 2**20:.0f} MiB, ratio {peak / reference:.2f}")


def print_breakdown(nets: Nets, images: Tensor, args: argparse.Namespace) -> None:
    """The parts of each backbone's time, at the first of the rates and executions."""
    execution, rate = args.execution[0], args.rates[0]
    print(f"\nmilliseconds, {execution} at rate {rate}:")
    for name, net in nets.items():
        with ExitStack() as stack:
            if isinstance(net, dynbackbones.DynamicBackbone):
                net.execution = execution
                stack.enter_context(net.select(args.selection, rate=rate, seed=args.seed))
            parts = breakdown(net, images, repeats=args.repeats)
        print(f"{name}: " + ", ".join(f"{part} {1e3 * s:.1f}" for part, s in parts.items()))


def usage_fits(timings: Sequence[Timing]) -> list[Fit]:
    """The line of time against blocks kept of each backbone that chooses blocks, and execution.

    Ratios are against the first backbone if that is static, else against keeping all blocks.
    """
    fits = []
    for name, execution, num_blocks in dict.fromkeys(
        (t.candidate.backbone, t.candidate.execution, t.num_blocks)
        for t in timings
        if t.blocks is not None
    ):
        fit = fit_usage(timings, name, execution, num_blocks)
        if fit is None:
            continue
        static = timings[0].candidate.execution is None
        full = timings[0].median if static else fit.seconds(1)
        fits.append(
            {
                "backbone": name,
                "execution": execution,
                "ms_per_block": 1e3 * fit.seconds_per_block,
                "fixed_ms": 1e3 * fit.fixed_seconds,
                "r_squared": fit.r_squared,
                "ratio_at_half": fit.seconds(0.5) / full,
                "reference": timings[0].candidate.backbone if static else f"{name}, all blocks",
            }
        )
    return fits


def describe_fit(fit: Fit) -> str:
    """One of `usage_fits` in a line."""
    return (
        f"{fit['backbone']}, {fit['execution']}: {fit['fixed_ms']:.1f} ms + "
        f"{fit['ms_per_block']:.2f} ms per block (r^2 {fit['r_squared']:.3f}); at half of the "
        f"blocks {fit['ratio_at_half']:.2f} of {fit['reference']}"
    )


def to_dict(
    timings: Sequence[Timing], fits: Sequence[Fit], args: argparse.Namespace
) -> dict[str, Any]:
    """All figures, for JSON."""
    return {
        "size": args.size,
        "batch_size": args.batch_size,
        "device": args.device,
        "card": _card(args),
        "threads": args.threads,
        "torch": torch.__version__,
        "treatment": _treatment(args),
        "processor_flags": processor_flags(),
        "results": [timing.to_dict(timings[0]) for timing in timings],
        "usage_fits": list(fits),
    }


def write_json(file: Path, content: list | dict) -> None:
    """Writes figures to a file, whose folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _card(args: argparse.Namespace) -> str | None:
    return torch.cuda.get_device_name() if args.device == "cuda" else None


def _treatment(args: argparse.Namespace) -> str:
    return f"{TREATMENTS[args.treatment]}, {args.dtype}"
