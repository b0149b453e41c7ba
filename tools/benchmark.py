#!/usr/bin/env python3
"""Compares the latency of backbones side by side, interleaved in one run on this machine."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

import dynbackbones
from dynbackbones.analysis.latency import break_even_rate, compare, latency_table

TREATMENT = "eager, BatchNorm not folded, float32"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--backbones",
        nargs="+",
        default=["resnet50", "sar_resnet50"],
        choices=dynbackbones.list_backbones(),
        metavar="NAME",
        help="what to compare; the first is the reference of all ratios",
    )
    parser.add_argument("--size", nargs=2, type=int, default=[224, 224], metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=[0.25, 0.5, 0.75, 1.0],
        help="activation rates of the random region masks",
    )
    parser.add_argument(
        "--execution",
        nargs="+",
        default=["sparse", "masked", "auto"],
        choices=["sparse", "masked", "auto"],
        help="of the dynamic backbones",
    )
    parser.add_argument("--repeats", type=int, default=20, help="measured rounds")
    parser.add_argument("--warmup", type=int, default=3, help="rounds before them")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of weights, input and masks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here too")
    args = parser.parse_args(argv)
    for name in ("batch_size", "threads", "repeats"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if args.warmup < 0:
        parser.error("--warmup must not be negative")
    if min(args.size) < 1:
        parser.error(f"--size must be positive, got {args.size[0]} {args.size[1]}")
    if not all(0 <= rate <= 1 for rate in args.rates):
        parser.error(f"--rates must lie in [0, 1], got {args.rates}")
    if len(set(args.backbones)) < len(args.backbones):
        parser.error("--backbones must differ from each other")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no CUDA device was found; use --device cpu")
    return args


def show_rounds(rounds: Iterable[int]) -> Iterator[int]:
    """Passes rounds on and counts them on stderr, on a terminal only."""
    rounds = list(rounds)
    for done, turn in enumerate(rounds, start=1):
        yield turn
        if sys.stderr.isatty():
            end = "\n" if done == len(rounds) else ""
            print(f"\rround {done}/{len(rounds)}", end=end, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    nets = {name: dynbackbones.build_backbone(name).to(args.device) for name in args.backbones}
    images = torch.randn(args.batch_size, 3, *args.size, device=args.device)
    timings = compare(
        nets,
        images,
        rates=args.rates,
        executions=args.execution,
        repeats=args.repeats,
        warmup=args.warmup,
        seed=args.seed,
        progress=show_rounds,
    )

    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} thread(s)"
    height, width = args.size
    print(
        f"{args.batch_size} x 3 x {height} x {width} on {args.device} ({where}), "
        f"torch {torch.__version__}, median of {args.repeats} interleaved rounds"
    )
    print(f"all backbones: {TREATMENT}; random region masks; MACs for each image\n")
    print(latency_table(timings))
    for name in args.backbones:
        rate = break_even_rate(timings, name)
        if rate is not None:
            print(f"\n{name}: sparse execution is faster than masked up to a rate of {rate:.2f}")
    if args.json is not None:
        report = {
            "size": args.size,
            "batch_size": args.batch_size,
            "device": args.device,
            "threads": args.threads,
            "torch": torch.__version__,
            "treatment": TREATMENT,
            "results": [timing.to_dict(timings[0]) for timing in timings],
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
