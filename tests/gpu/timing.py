"""Times of the contestants of a group in turns, and what the card can do at all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from dynbackbones.analysis.latency import Timing, event_seconds, measure
from tests.gpu.contestants import Contestant, one_line
from tests.gpu.networks import Place

REPEATS = 5, 30
"""Rounds at least and at most."""


def time_group(contestants: Sequence[Contestant], place: Place, seconds: float) -> list[dict]:
    """Times those without an error in turns.

    Args:
        contestants: of one group.
        place: where they run.
        seconds: that this may take.

    Returns:
        A row for each contestant; ratios are to the fastest plain one, and to each plain one.
    """
    stopwatch = event_seconds if place.on_gpu else wall_seconds
    ready = [one for one in contestants if not one.error and _runs(one, stopwatch)]
    timings: dict[int, Timing] = {}
    try:
        timings = _timings(ready, stopwatch, seconds) if ready else {}
    except Exception as error:  # such as a device that failed for good
        for one in ready:
            one.error = one_line(error)
        ready = []
    opponents = {one.label: timings[id(one)] for one in ready if one.plain}
    return [_row(one, timings.get(id(one)), opponents) for one in contestants]


def _timings(
    ready: Sequence[Contestant], stopwatch: Callable[[Callable[[], object]], float], seconds: float
) -> dict[int, Timing]:
    candidates = [one.candidate() for one in ready]
    once = measure(candidates, repeats=1, warmup=0, stopwatch=stopwatch)
    repeats = int(seconds / sum(map(sum, once)))
    repeats = min(max(repeats, REPEATS[0]), REPEATS[1])
    times = measure(candidates, repeats=repeats, warmup=2, stopwatch=stopwatch)
    return {
        id(one): Timing(candidate, values, one.macs or 0.0)
        for one, candidate, values in zip(ready, candidates, times, strict=True)
    }


def _runs(one: Contestant, stopwatch: Callable[[Callable[[], object]], float]) -> bool:
    """Whether one more pass works; else its error is noted."""
    try:
        with one.context():
            stopwatch(one.run)
    except Exception as error:  # whatever it is, the others go on
        one.error = one_line(error)
    return not one.error


def wall_seconds(run: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def strongest(opponents: dict[str, Timing]) -> str | None:
    """The label of the fastest plain contestant."""
    return min(opponents, key=lambda label: opponents[label].median, default=None)


def _row(one: Contestant, timing: Timing | None, opponents: dict[str, Timing]) -> dict[str, Any]:
    row = {
        "network": one.network,
        "treatment": one.treatment,
        "plain": one.plain,
        "rate": one.rate,
        "gmacs": None if one.macs is None else one.macs / 1e9,
        "relative_error": one.difference,
        "prepare_s": round(one.seconds, 1),
        "note": one.note,
        "error": one.error,
    }
    if timing is None:
        return row
    first, third = timing.quartiles
    ratios = {label: timing.median / other.median for label, other in opponents.items()}
    best = strongest(opponents)
    return row | {
        "median_ms": 1e3 * timing.median,
        "first_quartile_ms": 1e3 * first,
        "third_quartile_ms": 1e3 * third,
        "repeats": len(timing.seconds),
        "ratio": ratios.get(best),
        "ratios": ratios,
    }


def ceilings(place: Place) -> dict[str, float]:
    """What the device reaches: bytes read and written in TB/s, and products in TFLOP/s."""
    edge, size = (8192, 2**31) if place.on_gpu else (256, 2**20)
    stopwatch = event_seconds if place.on_gpu else wall_seconds
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=place.device)
    target = torch.empty_like(source)
    left, right = (torch.randn(edge, edge, device=place.device).to(place.dtype) for _ in range(2))

    def median(run: Callable[[], object]) -> float:
        return statistics.median([stopwatch(run) for _ in range(13)][3:])

    return {
        "copy_tb_per_s": 2 * size / median(lambda: target.copy_(source)) / 1e12,
        "matmul_tflop_per_s": 2 * edge**3 / median(lambda: left @ right) / 1e12,
    }
