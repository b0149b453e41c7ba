"""Latency of several backbones side by side: interleaved, so that a busy machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynbackbones.analysis.candidates import Candidate, make_ready


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
            "cpu_ratio": self._cpu_ratio(reference),
            "repeats": len(self.seconds),
            "ratio": self.median / reference.median,
            "macs": self.macs,
            "mac_ratio": self.macs / reference.macs,
            "blocks": self.blocks,
        }

    def _cpu_ratio(self, reference: Timing) -> float | None:
        """Median over the rounds of the ratio of processor times, which waiting does not enter."""
        if not (self.cpu_seconds and reference.cpu_seconds):
            return None
        pairs = zip(self.cpu_seconds, reference.cpu_seconds, strict=True)
        return statistics.median(own / other for own, other in pairs)


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


def _synchronizer(device: torch.device) -> Callable[[], None]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None
