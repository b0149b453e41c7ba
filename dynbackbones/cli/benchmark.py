"""Compares the latency of backbones side by side, interleaved in one run on this machine."""

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import torch

import dynbackbones
from dynbackbones.analysis.breakdown import breakdown
from dynbackbones.analysis.latency import (
    Timing,
    backbone_of,
    break_even_rate,
    compare,
    fit_usage,
    latency_table,
)
from dynbackbones.analysis.latency_plot import plot_latency, plot_spending
from dynbackbones.analysis.memory import peak_memory
from dynbackbones.cli.arguments import parse
from dynbackbones.errors import UserError

TREATMENTS = {
    "eager": "eager, BatchNorm not folded",
    "folded": "eager, BatchNorm folded, channels-last",
    "packed": "BatchNorm folded, channels-last, weights in oneDNN's layout",
}
PLOT_SUFFIXES = (".png", ".pdf", ".svg")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--backbones",
        nargs="+",
        default=["resnet50", "sar_resnet50"],
        metavar="NAME",
        help="what to compare, of this package or torchvision:NAME or timm:NAME; the first is the "
        "reference of all ratios",
    )
    parser.add_argument(
        "--detectors",
        nargs="+",
        metavar="CONFIG",
        help="in place of --backbones: whole detectors of the torchvision engine, with random "
        "weights; MACs are those of their backbones",
    )
    parser.add_argument(
        "--calibrate",
        metavar="CONFIG",
        help="in place of --backbones: a trained detector of the torchvision engine, calibrated to "
        "each of the rates without training; its AP against its time on DATASETS.TEST",
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="for --calibrate; by default those of its OUTPUT_DIR"
    )
    parser.add_argument("--size", nargs=2, type=int, default=[224, 224], metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=[0.25, 0.5, 0.75, 1.0],
        help="share of regions (SAR) or residual blocks (BlockDrop) that a random choice keeps",
    )
    parser.add_argument(
        "--usage",
        nargs="?",
        type=int,
        const=5,
        metavar="POINTS",
        help="in place of --rates: so many shares from 0 to 1 (5 without a number), and for "
        "BlockDrop the line of the time against the number of blocks kept",
    )
    parser.add_argument(
        "--execution",
        nargs="+",
        default=["sparse", "masked", "auto"],
        choices=["sparse", "masked", "auto"],
        help="of the dynamic backbones",
    )
    parser.add_argument(
        "--treatment",
        choices=list(TREATMENTS),
        default="eager",
        help="of all backbones alike; folded and packed are optimize_for_inference without and "
        "with pack",
    )
    parser.add_argument(
        "--selection",
        default="random",
        choices=["random", "uniform", "center", "first", "distributed"],
        help="which regions (random, uniform, center) or blocks (random, first, distributed) run",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw latency against rate (needs matplotlib)"
    )
    parser.add_argument(
        "--memory", action="store_true", help="also the peak memory of a forward pass of each"
    )
    parser.add_argument(
        "--breakdown", action="store_true", help="also where the time of each goes, on a CPU"
    )
    parser.add_argument("--repeats", type=int, default=20, help="measured rounds")
    parser.add_argument("--warmup", type=int, default=3, help="rounds before them")
    parser.add_argument(
        "--dtype", choices=list(DTYPES), default="float32", help="of weights and images"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of weights, input and masks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here too")
    args = parse(parser, argv)
    for name in ("batch_size", "threads", "repeats"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if args.plot is not None and args.plot.suffix.lower() not in PLOT_SUFFIXES:
        parser.error(f"--plot must end in {', '.join(PLOT_SUFFIXES)}, got {args.plot}")
    if args.warmup < 0:
        parser.error("--warmup must not be negative")
    if min(args.size) < 1:
        parser.error(f"--size must be positive, got {args.size[0]} {args.size[1]}")
    if not all(0 <= rate <= 1 for rate in args.rates):
        parser.error(f"--rates must lie in [0, 1], got {args.rates}")
    if len(set(args.backbones)) < len(args.backbones):
        parser.error("--backbones must differ from each other")
    if args.usage is not None:
        if args.usage < 3:
            parser.error(f"--usage must be at least 3, a line fits any two; got {args.usage}")
        args.rates = [index / (args.usage - 1) for index in range(args.usage)]
    if args.dtype != "float32" and (args.treatment == "packed" or args.calibrate):
        parser.error(f"--dtype {args.dtype} is not for --treatment packed or --calibrate")
    if args.weights and not args.calibrate:
        parser.error("--weights goes with --calibrate")
    if args.calibrate and args.device != "cpu":
        parser.error("--calibrate measures on --device cpu")
    if args.memory and args.detectors:
        parser.error("--memory is for --backbones")
    if args.breakdown and (args.detectors or args.device != "cpu"):
        parser.error("--breakdown is for --backbones on --device cpu")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no CUDA device was found; use --device cpu")
    return args


def build_named(name: str) -> torch.nn.Module:
    """A network by its name.

    Raises:
        UserError: there is none of that name.
    """
    library, _, model = name.rpartition(":")
    if library in ("torchvision", "timm"):
        if importlib.util.find_spec(library) is None:
            raise UserError(f"--backbones {name}: {library} is not installed")
        if library == "torchvision":
            from torchvision.models import get_model as create
        else:
            from timm import create_model as create
        try:
            return create(model)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"--backbones: {library} has no model {model}") from error
    if name not in dynbackbones.list_backbones():
        known = ", ".join(dynbackbones.list_backbones())
        raise UserError(f"--backbones {name} is not known; known are {known}")
    return dynbackbones.build_backbone(name)


def build(args: argparse.Namespace) -> dict[str, torch.nn.Module]:
    """The networks to compare, all treated alike."""
    if args.detectors:
        from dynbackbones.integrations.torchvision.config import load_config
        from dynbackbones.integrations.torchvision.detectors import build_detector

        nets = {Path(file).stem: build_detector(load_config(file)) for file in args.detectors}
    else:
        nets = {name: build_named(name) for name in args.backbones}
    if args.treatment != "eager":
        for name, net in nets.items():
            if backbone_of(net) is None:
                raise UserError(
                    f"{name} cannot be treated like the others: leave --treatment {args.treatment}"
                )
        pack = args.treatment == "packed"
        nets = {
            name: dynbackbones.optimize_for_inference(net, pack=pack) for name, net in nets.items()
        }
    return {name: net.to(args.device, DTYPES[args.dtype]).eval() for name, net in nets.items()}


def check_selection(net: torch.nn.Module, selection: str) -> None:
    """Makes sure that a network knows this kind of choice.

    Raises:
        UserError: it does not.
    """
    backbone = backbone_of(net)
    if isinstance(backbone, dynbackbones.DynamicBackbone):
        try:
            with backbone.select(selection):
                pass
        except ValueError as error:
            raise UserError(f"--selection {selection}: {error}") from error


def print_breakdown(net: torch.nn.Module, images: torch.Tensor, args: argparse.Namespace) -> None:
    """One line with the parts of a backbone's time, at the first of the rates."""
    with ExitStack() as stack:
        if isinstance(net, dynbackbones.DynamicBackbone):
            net.execution = args.execution[0]
            stack.enter_context(net.select(args.selection, rate=args.rates[0], seed=args.seed))
        parts = breakdown(net, images, repeats=args.repeats)
    print(", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in parts.items()))


def print_memory(
    nets: dict[str, torch.nn.Module], images: torch.Tensor, args: argparse.Namespace
) -> None:
    """The peak memory of each backbone, at the first of the rates and executions."""
    execution, rate = args.execution[0], args.rates[0]
    print(f"\npeak memory beyond network and images, {execution} at rate {rate}:")
    reference = None
    for name, net in nets.items():
        peak = peak_memory(net, images, execution=execution, selection=args.selection, rate=rate)
        reference = reference or peak
        print(f"{name}: {peak / 2**20:.0f} MiB, ratio {peak / reference:.2f}")


def show_rounds(rounds: Iterable[int]) -> Iterator[int]:
    """Passes rounds on and counts them on stderr, on a terminal only."""
    rounds = list(rounds)
    for done, turn in enumerate(rounds, start=1):
        yield turn
        if sys.stderr.isatty():
            end = "\n" if done == len(rounds) else ""
            print(f"\rround {done}/{len(rounds)}", end=end, file=sys.stderr, flush=True)


def usage_fits(
    timings: list[Timing], nets: dict[str, torch.nn.Module]
) -> list[dict[str, str | float]]:
    """The line of time against blocks kept of each BlockDrop backbone and execution.

    Ratios are against the first backbone if that is static, else against keeping all blocks.
    """
    fits = []
    for name, execution in dict.fromkeys(
        (t.candidate.backbone, t.candidate.execution) for t in timings if t.blocks is not None
    ):
        fit = fit_usage(timings, name, execution, backbone_of(nets[name]).num_blocks)
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


def describe_fit(fit: dict[str, str | float]) -> str:
    return (
        f"{fit['backbone']}, {fit['execution']}: {fit['fixed_ms']:.1f} ms + "
        f"{fit['ms_per_block']:.2f} ms per block (r^2 {fit['r_squared']:.3f}); at half of the "
        f"blocks {fit['ratio_at_half']:.2f} of {fit['reference']}"
    )


def calibrated(args: argparse.Namespace) -> None:
    """The spending curve of a trained detector."""
    from dynbackbones.integrations.torchvision import spending
    from dynbackbones.integrations.torchvision.config import load_config
    from dynbackbones.integrations.torchvision.predictor import load_predictor

    cfg = load_config(
        args.calibrate,
        ["MODEL.DEVICE", "cpu", *(["MODEL.WEIGHTS", args.weights] if args.weights else [])],
    )
    detector = load_predictor(cfg).model
    if args.treatment != "eager":
        detector = dynbackbones.optimize_for_inference(detector, pack=args.treatment == "packed")
    points = spending.spending_curve(cfg, detector, args.rates, progress=show_rounds)
    print(
        f"{args.calibrate}, one image at a time, {args.threads} thread(s), "
        f"{TREATMENTS[args.treatment]}\n"
    )
    print(spending.spending_table(points))
    if args.json is not None:
        write_json(args.json, [vars(point) for point in points])
    if args.plot is not None:
        labels = [f"{point.rate:.2f}" for point in points]
        aps = [point.ap for point in points]
        plot_spending([point.seconds for point in points], aps, labels, args.plot)


def write_json(file: Path, content: list | dict) -> None:
    """Writes figures to a file, whose folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.calibrate:
        calibrated(args)
        return
    nets = build(args)
    for net in nets.values():
        check_selection(net, args.selection)
    images = torch.randn(args.batch_size, 3, *args.size).to(args.device, DTYPES[args.dtype])
    if args.treatment != "eager":
        images = images.contiguous(memory_format=torch.channels_last)
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

    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} thread(s)"
    height, width = args.size
    print(
        f"{args.batch_size} x 3 x {height} x {width} on {args.device} ({where}), "
        f"torch {torch.__version__}, median of {args.repeats} interleaved rounds"
    )
    treatment = f"{TREATMENTS[args.treatment]}, {args.dtype}"
    print(f"all backbones: {treatment}; {args.selection} regions or blocks; MACs for each image\n")
    print(latency_table(timings))
    for name in nets:
        rate = break_even_rate(timings, name)
        if rate is not None:
            print(f"\n{name}: sparse execution is faster than masked up to a rate of {rate:.2f}")
    if args.memory:
        print_memory(nets, images, args)
    if args.breakdown:
        print(f"\nmilliseconds, {args.execution[0]} at rate {args.rates[0]}:")
        for name, net in nets.items():
            print(f"{name}: ", end="")
            print_breakdown(net, images, args)
    fits = usage_fits(timings, nets)
    if fits:
        print("\n" + "\n".join(describe_fit(fit) for fit in fits))
    if args.json is not None:
        report = {
            "size": args.size,
            "batch_size": args.batch_size,
            "device": args.device,
            "threads": args.threads,
            "torch": torch.__version__,
            "treatment": treatment,
            "results": [timing.to_dict(timings[0]) for timing in timings],
            "usage_fits": fits,
        }
        write_json(args.json, report)
    if args.plot is not None:
        plot_latency(timings, args.plot)

