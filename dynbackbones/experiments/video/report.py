"""The needle experiment's table in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from dynbackbones.demo.needle_videos import expected_accuracy
from dynbackbones.experiments.table import each, heading, row

ADAFRAME = {
    "adaframe": "AdaFrame, K = 3",
    "uniform": "uniform",
    "random": "random",
    "frame_exit": "FrameExit's fixed order",
    "saliency, memory": "supervised saliency, of the memory's 16 frames",
    "saliency, all": "supervised saliency, of all 60 frames",
    "memory off": "AdaFrame without memory",
    "positions in keys only": "AdaFrame, positions in keys only (as printed)",
    "reward p": "AdaFrame, reward p",
    "reward p - previous p": "AdaFrame, reward p - previous p",
}
LITEEVAL = {
    "liteeval": "LiteEval, gamma 0.1",
    "liteeval, set to 0.05": "the same, calibrated to 0.05",
    "liteeval, set to 0.2": "the same, calibrated to 0.2",
    "liteeval, sync off": "LiteEval without synchronisation",
    "gate at random": "gate at random, as often",
    "gate every 10th": "gate every 10th frame",
}
_FIGURES = (
    ("accuracy, %", "accuracy", 1),
    ("digit seen", "found", 2),
    ("different frames", "frames", 2),
    ("distinct choices", "distinct_policies", 0),
    ("their entropy, bits", "policy_entropy_bits", 1),
)
_BAR = 15.0  # points


def markdown(results: Mapping[str, Any]) -> Iterator[str]:
    """Tables with figures of each seed."""
    runs = list(results["seeds"].values())
    encoders = results["encoders"]
    accuracy = encoders["fine"]["class_accuracy"]
    yield f"Fine features tell the class of {100 * accuracy:.1f} % of visible digits, coarse ones "
    yield f"whether there is one in {100 * encoders['coarse']['presence_accuracy']:.1f} %. With "
    yield f"{100 * accuracy:.1f} % where seen, three even frames can reach "
    yield f"{100 * expected_accuracy(0.3, accuracy):.1f} %."
    yield ""
    for names in (ADAFRAME, LITEEVAL):
        yield from heading(["", *(label for label, *_ in _FIGURES)])
        for name, label in names.items():
            entries = [run[name] for run in runs if name in run]
            if entries:
                figures = (each([e[key] for e in entries], digits) for _, key, digits in _FIGURES)
                yield row([label, *figures])
        yield ""
    for name, others in (
        ("adaframe", ("uniform", "frame_exit", "saliency, memory")),
        ("liteeval", ("gate at random", "gate every 10th")),
    ):
        for other in others:
            yield _difference(name, other, runs)
    yield ""
    for run in runs:
        if "stopping" in run:
            yield from _stops(run["stopping"])
            break
    yield f"Seeds {', '.join(map(str, results['seeds']))}."


def _difference(name: str, other: str, runs: list[Mapping[str, Any]]) -> str:
    """Points between two, and whether they are beyond the bar by two standard errors."""
    values = [run[name]["accuracy"] - run[other]["accuracy"] for run in runs]
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"- {name} above {other}: {mean:.1f} points, one seed."
    low = mean - 2 * statistics.stdev(values) / len(values) ** 0.5
    return (
        f"- {name} above {other}: {mean:.1f} points, less two standard errors {low:.1f} "
        f"({'at least' if low >= _BAR else 'below'} {_BAR:.0f})."
    )


def _stops(curves: Mapping[str, Any]) -> Iterator[str]:
    yield from heading(["early stop of one model", "mean frames", "accuracy, %"])
    for kind, label in (
        ("lookahead", "utility, mu = {margin:.3f}"),
        ("probability", "largest probability, {threshold:.2f}"),
        ("first", "the first {count:.0f}"),
    ):
        for point in curves[kind]:
            yield row([label.format(**point), f"{point['frames']:.2f}", f"{point['accuracy']:.1f}"])
    yield ""
