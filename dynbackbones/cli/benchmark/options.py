"""The options of the benchmark, and which of them go together."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from dynbackbones.cli.arguments import parse
from dynbackbones.cli.benchmark.opponents import OPPONENTS, missing

TREATMENTS = {
    "eager": "eager, BatchNorm not folded",
    "folded": "eager, BatchNorm folded, channels-last",
    "packed": "BatchNorm folded, channels-last, weights in oneDNN's layout",
    "native": "BatchNorm folded, channels-last, weights in oneDNN's layout, regions in C++",
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BACKBONES = ["resnet50", "sar_resnet50"]
_SOURCES = ("backbones", "detectors", "calibrate")
_NOT_CALIBRATED = (
    "execution", "selection", "size", "batch_size", "repeats", "warmup", "seed", "memory",
    "breakdown",
)  # fmt: skip
_PLOT_SUFFIXES = (".png", ".pdf", ".svg")


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ``rates`` are those of ``--usage`` where that is given."""
    options = parser()
    args = parse(options, arguments)
    for mistake in (*_without_effect(options, args), *_mistakes(args)):
        options.error(mistake)
    args.backbones = args.backbones or BACKBONES
    if args.usage is not None:
        args.rates = [index / (args.usage - 1) for index in range(args.usage)]
    return args


def parser() -> argparse.ArgumentParser:
    """All options."""
    options = argparse.ArgumentParser(
        description="Compare the latency of backbones side by side, interleaved in one run on "
        "this machine.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_networks(options.add_argument_group("what is compared"))
    _add_decisions(options.add_argument_group("what dynamic backbones choose"))
    _add_measurement(options.add_argument_group("how it is measured"))
    _add_output(options.add_argument_group("what is reported beside the table"))
    return options


def _add_networks(options: argparse._ArgumentGroup) -> None:
    options.add_argument(
        "--backbones",
        nargs="+",
        metavar="NAME",
        help=f"what to compare (default: {' '.join(BACKBONES)}), of this package or "
        "torchvision:NAME or timm:NAME, options behind those of this package, as "
        "sar_resnet50,layout=resnet,alpha=4; the first is the reference of all ratios",
    )
    options.add_argument(
        "--detectors",
        nargs="+",
        metavar="CONFIG",
        help="in place of --backbones: whole detectors of the torchvision engine (YAML) and "
        "segmentors of mmseg (Python), with random weights; MACs are those of their backbones",
    )
    options.add_argument(
        "--calibrate",
        metavar="CONFIG",
        help="in place of --backbones: a trained detector of the torchvision engine, calibrated to "
        "each of the rates without training; its AP against its time on DATASETS.TEST",
    )
    options.add_argument(
        "--weights", metavar="FILE", help="for --calibrate; by default those of its OUTPUT_DIR"
    )
    options.add_argument(
        "--treatment",
        choices=list(TREATMENTS),
        default="eager",
        help="of all backbones alike; folded and packed are optimize_for_inference without and "
        "with pack, native is packed with native_rows",
    )
    options.add_argument(
        "--dtype", choices=list(DTYPES), default="float32", help="of weights and images"
    )
    options.add_argument(
        "--opponents",
        nargs="+",
        choices=list(OPPONENTS),
        default=[],
        metavar="NAME",
        help="what else could run the first of --backbones, a static one: "
        + "; ".join(f"{name}, {one.purpose}" for name, one in OPPONENTS.items())
        + ". Each network then runs in a process of its own, pinned to cores, asked in turn, and "
        "ratios are to the fastest static one that computes in --dtype",
    )


def _add_decisions(options: argparse._ArgumentGroup) -> None:
    options.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=[0.25, 0.5, 0.75, 1.0],
        help="share of regions (SAR) or residual blocks (BlockDrop) that a random choice keeps",
    )
    options.add_argument(
        "--usage",
        nargs="?",
        type=int,
        const=5,
        metavar="POINTS",
        help="in place of --rates: so many shares from 0 to 1 (5 without a number), and for "
        "BlockDrop the line of the time against the number of blocks kept",
    )
    options.add_argument(
        "--execution",
        nargs="+",
        default=["sparse", "masked", "auto"],
        choices=["sparse", "masked", "auto"],
        help="of the dynamic backbones",
    )
    options.add_argument(
        "--selection",
        default="random",
        choices=["random", "uniform", "center", "first", "distributed"],
        help="which regions (random, uniform, center) or blocks (random, first, distributed) run",
    )


def _add_measurement(options: argparse._ArgumentGroup) -> None:
    options.add_argument("--size", nargs=2, type=int, default=[224, 224], metavar=("H", "W"))
    options.add_argument("--batch-size", type=int, default=1)
    options.add_argument("--threads", type=int, default=1, help="of the CPU")
    options.add_argument("--repeats", type=int, default=20, help="measured rounds")
    options.add_argument("--warmup", type=int, default=3, help="rounds before them")
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options.add_argument("--seed", type=int, default=0, help="of weights, input and masks")


def _add_output(options: argparse._ArgumentGroup) -> None:
    options.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw latency against rate (needs matplotlib)"
    )
    options.add_argument(
        "--memory", action="store_true", help="also the peak memory of a forward pass of each"
    )
    options.add_argument(
        "--breakdown", action="store_true", help="also where the time of each goes, on a CPU"
    )
    options.add_argument("--json", type=Path, metavar="FILE", help="write all figures here too")


def _without_effect(
    options: argparse.ArgumentParser, args: argparse.Namespace
) -> Iterator[str]:
    """What was given and would not be looked at."""
    given = [name for name in _SOURCES if getattr(args, name)]
    if len(given) > 1:
        yield f"--{given[0]} and --{given[1]} are in place of each other; give one"
    for name in _NOT_CALIBRATED if args.calibrate else ():
        if getattr(args, name) != options.get_default(name):
            yield f"--{name.replace('_', '-')} has no effect with --calibrate"


def _mistakes(args: argparse.Namespace) -> Iterator[str]:
    """What is wrong with the values, or does not go together."""
    for name in ("batch_size", "threads", "repeats"):
        if getattr(args, name) < 1:
            yield f"--{name.replace('_', '-')} must be at least 1"
    if args.plot is not None and args.plot.suffix.lower() not in _PLOT_SUFFIXES:
        yield f"--plot must end in {', '.join(_PLOT_SUFFIXES)}, got {args.plot}"
    if args.warmup < 0:
        yield "--warmup must not be negative"
    if min(args.size) < 1:
        yield f"--size must be positive, got {args.size[0]} {args.size[1]}"
    if not all(0 <= rate <= 1 for rate in args.rates):
        yield f"--rates must lie in [0, 1], got {args.rates}"
    if args.backbones and len(set(args.backbones)) < len(args.backbones):
        yield "--backbones must differ from each other"
    if args.usage is not None and args.usage < 3:
        yield f"--usage must be at least 3, a line fits any two; got {args.usage}"
    if args.dtype != "float32" and args.calibrate:
        yield f"--dtype {args.dtype} is not for --calibrate"
    packed = args.treatment in ("packed", "native")
    if args.dtype == "float16" and packed:
        yield f"--dtype float16 is not for --treatment {args.treatment}; use bfloat16"
    if packed and args.device != "cpu":
        yield f"--treatment {args.treatment} is for --device cpu; use folded"
    yield from _mistaken_opponents(args)
    if args.weights and not args.calibrate:
        yield "--weights goes with --calibrate"
    if args.calibrate and args.device != "cpu":
        yield "--calibrate measures on --device cpu"
    if args.memory and args.detectors:
        yield "--memory is for --backbones"
    if args.breakdown and (args.detectors or args.device != "cpu"):
        yield "--breakdown is for --backbones on --device cpu"
    if args.device == "cuda" and not torch.cuda.is_available():
        yield "--device cuda: no CUDA device was found; use --device cpu"


def _mistaken_opponents(args: argparse.Namespace) -> Iterator[str]:
    for name in args.opponents:
        package = missing(name)
        if package is not None:
            yield f"--opponents {name}: {package} is not installed; pip install {package}"
        if args.dtype not in OPPONENTS[name].dtypes:
            yield f"--opponents {name} does not compute in --dtype {args.dtype}"
    if args.opponents and (args.detectors or args.calibrate):
        yield "--opponents is for --backbones"
    if args.opponents and args.device != "cpu":
        yield "--opponents measures on --device cpu"
