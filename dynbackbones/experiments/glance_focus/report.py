"""Tables of the experiment in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dynbackbones.experiments.glance_focus.evaluation import PLACES
from dynbackbones.experiments.table import each, heading, row

TITLES = {
    "warm_up": "Warm-up: crops anywhere, no policy yet",
    "policy": "Policy by reinforcement, frozen encoders and head",
    "fine_tune": "Fine-tuned with the policy's crops",
    "interpolate": "Everything at once through crops between pixels, from the same warm-up",
}
_LABELS = {"learned": "learned", "center": "centre", "random": "random"}


def markdown(results: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    """A section for each stage, figures of all seeds."""
    runs = list(results.values())
    for stage, title in TITLES.items():
        found = [run[stage] for run in runs]
        yield f"### {title}"
        yield ""
        yield from _places(found)
        yield ""
        if stage != "warm_up":
            yield from _budgets(found)
            yield ""
    yield from heading(["processor time of an image, batches of 64", "ms"])
    for kind, label in (("none", "glance"), ("exits", "second budget"), ("all", "all steps")):
        yield row([label, each([run["times"][kind] for run in runs], 2)])
    yield ""
    minutes = sum(entry["cpu_seconds"] for run in runs for entry in run.values()) / 60
    yield f"Seeds {', '.join(map(str, results))}; {minutes:.0f} minutes of processor time."


def _places(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    costs = found[0]["mmacs"]
    steps = [f"t = {step} ({cost:.1f})" for step, cost in enumerate(costs, start=1)]
    yield from heading(["crops, accuracy in % (10^6 MACs)", *steps, "digit in the first crop, %"])
    for place in PLACES:
        entries = [entry["places"][place] for entry in found]
        accuracy = [
            each([e["accuracy"][step] for e in entries], 1) for step in range(len(costs))
        ]
        shown = each([100 * e["covered"] for e in entries], 0)
        yield row([_LABELS[place], *accuracy, shown])


def _budgets(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = (
        ("reached on other images", "reached_mmacs", 2),
        ("accuracy, %", "accuracy", 1),
        ("straight line", "line", 1),
        ("all images alike", "alike", 1),
        ("searched: reached", "searched_reached_mmacs", 2),
        ("searched: accuracy", "searched_accuracy", 1),
    )
    yield from heading(["budget, 10^6 MACs", *(title for title, _, _ in columns)])
    for entries in zip(*(entry["budgets"] for entry in found), strict=True):
        asked = statistics.fmean(entry["asked_mmacs"] for entry in entries)
        figures = [each([e[key] for e in entries], digits) for _, key, digits in columns]
        yield row([f"{asked:.2f}", *figures])
