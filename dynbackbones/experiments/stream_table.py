"""Schedules and propagation on a labelled clip, beside everything that is to be beaten."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from dynbackbones.analysis.frame_schedules import best_keys, headroom_captured
from dynbackbones.experiments.stream_measured import MeasuredClip, met
from dynbackbones.video.agreement import Sample, train_agreement
from dynbackbones.video.report import spread_of

SHARES = (1 / 2, 1 / 3, 1 / 5, 1 / 10)
AGES = (0, 1, 2, 3, 5, 8, 10, 15)
_DRAWS = 10  # of random keys


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: of the schedule.
        way: of propagation; empty where nothing is propagated.
        share: of key frames that was reached.
        score: the clip's metric.
        spread: standard deviation over draws or seeds; None of what has none.
        captured: share of the oracle's headroom over every k-th frame.
    """

    name: str
    way: str
    share: float
    score: float
    spread: float | None = None
    captured: float | None = None


def rows(
    measured: MeasuredClip, shares: Sequence[float] = SHARES, seeds: Sequence[int] = (0, 1, 2)
) -> list[Row]:
    """All schedules at all shares; the learned one with warped results alone.

    Args:
        measured: the clip.
        shares: of key frames, each with a row of every schedule.
        seeds: of learned schedules. Each half of the clip is judged by one that learned on the
            other half.
    """
    every = [Row("every frame", "", 1.0, measured.score("copy", range(measured.frames)))]
    # Less has no frame to learn from in its first half.
    learned = [_expected(measured, seed) for seed in seeds if measured.frames >= 4]
    for way in measured.outcomes:
        for share in shares:
            every += _at(measured, way, share, learned if way == "warp" else [])
    return every


def _at(
    measured: MeasuredClip, way: str, share: float, learned: Sequence[np.ndarray]
) -> list[Row]:
    frames = measured.frames
    step = max(1, min(round(1 / share), measured.max_age + 1))
    uniform = list(range(0, frames, step))
    oracle = best_keys(measured.errors[way], len(uniform))
    share = len(uniform) / frames
    best, plain = measured.score(way, oracle), measured.score(way, uniform)

    def row(name: str, choices: Sequence[list[int]]) -> Row:
        scores = [measured.score(way, keys) for keys in choices]
        score = statistics.fmean(scores)
        spread = statistics.stdev(scores) if len(scores) > 1 else None
        reached = statistics.fmean(len(keys) for keys in choices) / frames
        captured = headroom_captured(score, plain, best)
        return Row(name, way, reached, score, spread, captured)

    different = met(share, frames, lambda x: measured.keys_where(measured.differences > x))
    found = [
        row(f"every {step}", [uniform]),
        row("random", [_random(measured, len(uniform), seed) for seed in range(_DRAWS)]),
        row("difference", [different]),
    ]
    if learned:
        choices = [
            met(share, frames, lambda x, e=expected: measured.keys_where(e < 1 - x))
            for expected in learned
        ]
        found.append(row("agreement", choices))
    return [*found, row("oracle", [oracle])]


def _random(measured: MeasuredClip, count: int, seed: int) -> list[int]:
    """So many keys anywhere, and more where results would become too old."""
    drawn = np.random.default_rng(seed).permutation(np.arange(1, measured.frames))[: count - 1]
    wanted = np.zeros((measured.frames, measured.max_age + 1), bool)
    wanted[drawn] = True
    return measured.keys_where(wanted)


def _expected(measured: MeasuredClip, seed: int) -> np.ndarray:
    """(T, ages) agreement that networks expect which have not seen the frames."""
    expected = np.ones((measured.frames, measured.max_age + 1))
    halves: tuple[list[Sample], list[Sample]] = ([], [])
    for sample in measured.samples:
        halves[sample.frame >= measured.frames // 2].append(sample)
    for known, judged in (halves, halves[::-1]):
        network = train_agreement(known, seed=seed)
        with torch.no_grad():
            values = network(torch.stack([sample.described for sample in judged]))
        for sample, value in zip(judged, values.tolist(), strict=True):
            expected[sample.frame, sample.age] = value
    return expected


def by_age(measured: MeasuredClip) -> dict[str, dict[int, float]]:
    """The metric of results that are so many frames old, by way of propagation."""
    ages = [age for age in AGES if age <= measured.max_age and age < measured.frames]
    ways = measured.outcomes
    return {way: {age: measured.score_at_age(way, age) for age in ages} for way in ways}


def timed(
    runs: Mapping[str, Callable[[np.ndarray], Any]], frames: Iterable[np.ndarray]
) -> dict[str, dict[str, float]]:
    """Milliseconds of a frame: all runs on each frame in turn, so that all meet the same machine.

    Args:
        runs: functions of a frame, by name; streams see the frames in their order.
        frames: a clip.

    Returns:
        By name ``mean``, ``p95``, ``max``, and ``ratio`` of the mean to the first run's.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for t, image in enumerate(frames):
        turn = t % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            runs[name](image)
            found[name].append(1000 * (time.perf_counter() - start))
    spreads = {name: spread_of(times) for name, times in found.items()}
    base = spreads[names[0]]["mean"]
    return {name: {**spread, "ratio": spread["mean"] / base} for name, spread in spreads.items()}


def markdown(table: Sequence[Row], metric: str) -> str:
    """The rows as a table."""
    head = ("schedule", "shown", "key share", metric, "headroom captured")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in table:
        spread = "" if row.spread is None else f" ± {row.spread:.1f}"
        captured = "" if row.captured is None else f"{row.captured:.2f}"
        lines.append(
            f"| {row.name} | {row.way} | {row.share:.2f} | {row.score:.1f}{spread} | {captured} |"
        )
    return "\n".join(lines)


def to_dict(
    table: Sequence[Row], ages: Mapping[str, Mapping[int, float]], times: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything as JSON has it."""
    return {"rows": [asdict(row) for row in table], "by_age": ages, "milliseconds": times}
