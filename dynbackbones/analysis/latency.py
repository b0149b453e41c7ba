"""Latency of several backbones side by side: interleaved, so that a busy machine hits all alike."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import Backbone, find_backbones
from dynbackbones.backbones.decisions import Decisions
from dynbackbones.backbones.dynamic import DynamicBackbone

DRAWS = 5
"""Random choices that a measurement goes through."""


@dataclass(frozen=True)
class Candidate:
    """One thing to time.

    Attributes:
        backbone: its name.
        forward: what is timed.
        execution: "sparse", "masked" or "auto"; None for a static backbone.
        rate: share of regions (activation rate) or of blocks that a random choice keeps; None for
            a static backbone.
        context: what surrounds each forward, entered and left outside of the measured time.
    """

    backbone: str
    forward: Callable[[], object]
    execution: str | None = None
    rate: float | None = None
    context: Callable[[], AbstractContextManager] = nullcontext


@dataclass(frozen=True)
class Timing:
    """The measured times of one candidate.

    Attributes:
        candidate: what ran.
        seconds: one entry per repetition.
        macs: multiply-accumulates for each image, mean over the batch.
        blocks: number of residual blocks that each image kept, mean over the batch; None for a
            backbone that drops none.
        num_blocks: how many there are.
        cpu_seconds: processor time of each repetition, of all threads, where it was measured.
    """

    candidate: Candidate
    seconds: list[float]
    macs: float
    blocks: float | None = None
    num_blocks: int | None = None
    cpu_seconds: list[float] | None = None

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of the seconds; both the only value of a single repetition."""
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0]
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return first, third

    def to_dict(self, reference: Timing) -> dict[str, str | float | None]:
        """All figures for JSON; ratios are against ``reference``."""
        first, third = self.quartiles
        return {
            "backbone": self.candidate.backbone,
            "execution": self.candidate.execution,
            "rate": self.candidate.rate,
            "median_ms": 1e3 * self.median,
            "first_quartile_ms": 1e3 * first,
            "third_quartile_ms": 1e3 * third,
            "median_cpu_ms": self.cpu_seconds and 1e3 * statistics.median(self.cpu_seconds),
            "repeats": len(self.seconds),
            "ratio": self.median / reference.median,
            "macs": self.macs,
            "mac_ratio": self.macs / reference.macs,
            "blocks": self.blocks,
        }


def measure(
    candidates: Sequence[Candidate],
    *,
    repeats: int = 20,
    warmup: int = 3,
    synchronize: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    stopwatch: Callable[[Callable[[], object]], float] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[list[float]]:
    """Times candidates in turn, one forward of each per round.

    Each round starts with the next candidate, so that none always runs after the same neighbour.

    Args:
        repeats: measured rounds.
        warmup: rounds before them, not measured.
        synchronize: waits for the device's pending work; called before each reading of the clock.
        clock: returns seconds.
        stopwatch: runs what it is given and returns its seconds, in place of the clock; for example
            `event_seconds`.
        progress: wraps the sequence of rounds, for example to display it.

    Returns:
        For each candidate its ``repeats`` times in seconds.

    Raises:
        ValueError: ``repeats`` is below 1 or ``warmup`` negative.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(
            f"repeats must be at least 1 and warmup at least 0, got {repeats} and {warmup}"
        )
    seconds: list[list[float]] = [[] for _ in candidates]
    for turn in progress(range(warmup + repeats)):
        for offset in range(len(candidates)):
            index = (turn + offset) % len(candidates)
            with candidates[index].context():
                if stopwatch is not None:
                    elapsed = stopwatch(candidates[index].forward)
                else:
                    synchronize()
                    start = clock()
                    candidates[index].forward()
                    synchronize()
                    elapsed = clock() - start
            if turn >= warmup:
                seconds[index].append(elapsed)
    return seconds


def event_seconds(run: Callable[[], object]) -> float:
    """Seconds that a call keeps the current CUDA device busy, from an idle device to its end."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def candidates_of(
    name: str,
    net: nn.Module,
    images: Tensor,
    *,
    rates: Sequence[float],
    executions: Sequence[str],
    selection: str = "random",
    seed: int = 0,
) -> list[Candidate]:
    """What there is to time in one network: each execution at each rate, or a static net once.

    Args:
        name: shown in tables.
        net: in evaluation mode; a backbone of this package, a detector of torchvision with one
            inside, which then takes the images as a list, or any other network.
        images: (N, 3, H, W) input.
        rates: shares of regions or blocks that are kept.
        executions: of "sparse", "masked", "auto".
        selection: which ones; see `RegionSelection` and `BlockSelection`.
        seed: of the first of `DRAWS` choices, which take turns and are the same for every
            execution.
    """

    backbone = backbone_of(net)
    inputs = images if backbone in (net, None) else list(images)

    def forward() -> object:
        return net(inputs)

    if not isinstance(backbone, DynamicBackbone):
        return [Candidate(name, forward)]

    def context(execution: str, rate: float) -> Callable[[], AbstractContextManager]:
        # What is chosen matters for the cost of a BlockDrop network, whose blocks differ.
        draws = [_drawn(backbone, forward, selection, rate, seed + i) for i in range(DRAWS)]
        chosen = itertools.cycle(draws)

        def enter() -> AbstractContextManager:
            backbone.execution = execution
            return backbone.select(next(chosen))

        return enter

    return [
        Candidate(name, forward, execution, rate, context(execution, rate))
        for rate in rates
        for execution in executions
    ]


def backbone_of(net: nn.Module) -> Backbone | None:
    """The one backbone of this package that a network is or contains, if any.

    Raises:
        ValueError: there are several.
    """
    found = find_backbones(net)
    if len(found) > 1:
        raise ValueError(f"{type(net).__name__} has {len(found)} backbones of this package, not 1")
    return found[0] if found else None


@torch.inference_mode()
def _drawn(
    backbone: DynamicBackbone,
    forward: Callable[[], object],
    selection: str,
    rate: float,
    seed: int,
) -> Tensor | dict[str, Tensor]:
    """Decisions as values, so that drawing them is not timed."""
    with backbone.select(selection, rate=rate, seed=seed):
        forward()
    return backbone.decisions.choices()


class Ready(NamedTuple):
    """A candidate and what its forward passes cost; see `Timing`."""

    candidate: Candidate
    macs: float
    blocks: float | None = None
    num_blocks: int | None = None


@torch.inference_mode()
def make_ready(name: str, net: nn.Module, images: Tensor, **choices: Any) -> list[Ready]:
    """The candidates of a network, each of which has run once.

    Args:
        name, net, images: see `candidates_of`.
        choices: its other arguments.
    """
    net.eval()
    ready = []
    for candidate in candidates_of(name, net, images, **choices):
        if backbone_of(net) is None:
            ready.append(Ready(candidate, _counted_macs(net, images)))
            continue
        seen = []
        for _ in range(1 if candidate.rate is None else DRAWS):
            with candidate.context():
                candidate.forward()
            seen.append(backbone_of(net).decisions)
        macs = statistics.fmean(float(decisions.macs.mean()) for decisions in seen)
        ready.append(Ready(candidate, macs, *_blocks_kept(seen[0])))
    return ready


@torch.inference_mode()
def compare(
    nets: dict[str, nn.Module],
    images: Tensor,
    *,
    rates: Sequence[float] = (0.5,),
    executions: Sequence[str] = ("auto",),
    repeats: int = 20,
    warmup: int = 3,
    selection: str = "random",
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[Timing]:
    """Times networks side by side on the same input.

    Args:
        nets: dict from name to network, all on the device of ``images``.
        images, rates, executions, selection, seed: see `candidates_of`.
        repeats, warmup, progress: see `measure`.

    Returns:
        A `Timing` for each candidate, the first network's first; MACs are those of its backbone.
    """
    choices = {"rates": rates, "executions": executions, "selection": selection, "seed": seed}
    ready = [
        one for name, net in nets.items() for one in make_ready(name, net, images, **choices)
    ]
    seconds = measure(
        [one.candidate for one in ready],
        repeats=repeats,
        warmup=warmup,
        synchronize=_synchronizer(images.device),
        progress=progress,
    )
    return [
        Timing(one.candidate, times, *one[1:])
        for one, times in zip(ready, seconds, strict=True)
    ]


def _counted_macs(net: nn.Module, images: Tensor) -> float:
    # Imported on use: it scripts functions, which torch warns of.
    from fvcore.nn import FlopCountAnalysis

    counter = FlopCountAnalysis(net, images[:1])
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counts = counter.by_operator()
    return float(counts["conv"] + counts["linear"])


def _blocks_kept(decisions: Decisions) -> tuple[float, int] | tuple[None, None]:
    """Blocks that an image keeps in the mean, and how many there are."""
    blocks = decisions.blocks()
    if blocks is None:
        return None, None
    return float(blocks.actions.sum(dim=1).double().mean()), blocks.actions.shape[1]


def _synchronizer(device: torch.device) -> Callable[[], None]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def break_even_rate(timings: Sequence[Timing], backbone: str) -> float | None:
    """The activation rate up to which a backbone's sparse execution is the faster one.

    Interpolates linearly between the measured rates.

    Returns:
        None if sparse execution wins or loses at every measured rate, or one of the two executions
        was not measured.
    """
    medians = {
        (timing.candidate.execution, timing.candidate.rate): timing.median
        for timing in timings
        if timing.candidate.backbone == backbone
    }
    rates = sorted(
        rate for execution, rate in medians if execution == "sparse" and ("masked", rate) in medians
    )
    gains = [medians["masked", rate] - medians["sparse", rate] for rate in rates]
    for i in range(1, len(rates)):
        if gains[i - 1] > 0 >= gains[i]:
            part = gains[i - 1] / (gains[i - 1] - gains[i])
            return rates[i - 1] + part * (rates[i] - rates[i - 1])
    return None


@dataclass(frozen=True)
class UsageFit:
    """The line through a backbone's time against the number of blocks kept.

    Attributes:
        seconds_per_block: slope.
        fixed_seconds: time at no block: stem, shortcuts, policy network.
        r_squared: share of the times' variance that the line explains.
        num_blocks: K.
    """

    seconds_per_block: float
    fixed_seconds: float
    r_squared: float
    num_blocks: int

    def seconds(self, usage: float) -> float:
        """The line's value at a share of blocks."""
        return self.fixed_seconds + self.seconds_per_block * usage * self.num_blocks


def fit_usage(
    timings: Sequence[Timing], backbone: str, execution: str, num_blocks: int
) -> UsageFit | None:
    """Fits a line to the median times of a BlockDrop backbone by least squares.

    Returns:
        None where fewer than three numbers of blocks were measured: a line fits any two.
    """
    points = [
        (timing.blocks, timing.median)
        for timing in timings
        if timing.blocks is not None
        and (timing.candidate.backbone, timing.candidate.execution) == (backbone, execution)
    ]
    if len({blocks for blocks, _ in points}) < 3:
        return None
    blocks, medians = zip(*points, strict=True)
    slope, intercept = statistics.linear_regression(blocks, medians)
    correlation = statistics.correlation(blocks, medians) if len(set(medians)) > 1 else 0.0
    return UsageFit(slope, intercept, correlation**2, num_blocks)


def latency_table(timings: Sequence[Timing]) -> str:
    """The figures as text, a line for each candidate; ratios are against the first one."""
    measured = timings[0].cpu_seconds is not None
    width = max(25, *(len(timing.candidate.backbone) + 1 for timing in timings))
    lines = [
        f"{'backbone':<{width}}{'execution':>10}{'rate':>6}{'median ms':>11}{'quartiles':>17}"
        f"{'ratio':>7}{'CPU ms' if measured else '':>{9 * measured}}{'GMACs':>9}{'MAC ratio':>11}"
    ]
    for timing in timings:
        row = timing.to_dict(timings[0])
        # A GPU takes a few milliseconds.
        form = ".2f" if row["median_ms"] < 100 else ".1f"
        quartiles = f"{row['first_quartile_ms']:{form}} - {row['third_quartile_ms']:{form}}"
        rate = "-" if row["rate"] is None else f"{row['rate']:.2f}"
        cpu = f"{row['median_cpu_ms']:>9{form}}" if measured else ""
        lines.append(
            f"{row['backbone']:<{width}}{row['execution'] or '-':>10}{rate:>6}"
            f"{row['median_ms']:>11{form}}{quartiles:>17}{row['ratio']:>7.2f}{cpu}"
            f"{row['macs'] / 1e9:>9.2f}{row['mac_ratio']:>11.2f}"
        )
    return "\n".join(lines)
