"""Tables of the experiments in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from dynbackbones.experiments.table import each, heading, row

NAMES = {
    "all": "all patches",
    "none": "no patches",
    "learned": "learned",
    "horizontal": "fixed, horizontal",
    "vertical": "fixed, vertical",
    "stochastic": "stochastic",
    "random": "random",
    "best": "best fixed mask",
}
TITLES = {
    "high": "High-resolution classifier",
    "low": "Low-resolution classifier",
    "policy": "Pt: the policy, frozen classifier",
    "joint": "Ft-1: policy and classifier",
    "fine_tuned": "The classifier fine-tuned with fixed masks, as long as Ft-1",
    "two_stream": "Ft-2: with the low-resolution classifier",
}
_COLUMNS = ("patches", "accuracy, %", "S of 16", "pixels", "10^6 MACs")
_FIGURES = (
    ("accuracy", 1),
    ("patches", 2),
    ("pixel_rate", 1, 100),
    ("mmacs", 2),
)
_POLICY = (
    ("S, standard deviation over images", "std_actions"),
    ("distinct policies", "distinct_policies"),
    ("entropy of the policies, bits", "policy_entropy_bits"),
    ("cells that the digit touches", "touched_cells"),
    ("of these chosen", "touched_chosen"),
)


def markdown(results: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    """A section for each stage, figures of all seeds."""
    runs = list(results.values())
    for stage, title in TITLES.items():
        found = [run[stage] for run in runs if stage in run]
        if not found:
            continue
        yield f"### {title}"
        yield ""
        yield from heading(_COLUMNS)
        for name, label in NAMES.items():
            entries = [entry[name] for entry in found if name in entry]
            if entries:
                figures = [each([e[key] for e in entries], *how) for key, *how in _FIGURES]
                yield row([label, *figures])
        yield ""
        if "distinct_policies" in found[0].get("learned", {}):
            yield from _policies([entry["learned"] for entry in found])
    yield from _bagnet(runs)
    seconds = sum(_seconds(run) for run in runs)
    yield f"Seeds {', '.join(map(str, results))}; {seconds / 60:.0f} minutes of processor time."


def sigma_table(results: Mapping[float, Mapping[str, Any]]) -> Iterator[str]:
    """What the policy's stage gives with each penalty."""
    yield from heading(["sigma", "S of 16", "accuracy, %", "distinct policies"])
    for sigma, result in results.items():
        learned = result["learned"]
        patches, accuracy = f"{learned['patches']:.2f}", f"{learned['accuracy']:.1f}"
        yield row([f"{sigma:g}", patches, accuracy, str(learned["distinct_policies"])])


def _policies(learned: list[Mapping[str, Any]]) -> Iterator[str]:
    yield from heading(["learned policy", "each seed"])
    for label, key in _POLICY:
        if key in learned[0]:
            yield row([label, each([entry[key] for entry in learned], 2)])
    for label, key, digits in (
        ("S, quarters of images by S", "patches_by_quarter", 1),
        ("accuracy, the same quarters", "accuracy_by_quarter", 1),
    ):
        means = [statistics.mean(values) for values in zip(*(e[key] for e in learned), strict=True)]
        yield row([label, " ".join(f"{value:.{digits}f}" for value in means)])
    yield ""


def _bagnet(runs: list[Mapping[str, Any]]) -> Iterator[str]:
    if "times" in runs[0]:
        yield from heading(["patches of each image", "ms, batch of 64"])
        for count in ("4", "8", "16"):
            yield row([count, each([run["times"][count] for run in runs])])
        yield ""
        yield from heading(["trained on", "accuracy on whole images, %"])
        for way, label in (
            ("none", "whole images"),
            ("policy", "hard positives of the policy"),
            ("random", "random masks"),
        ):
            entries = [run["hard_positives"][way]["accuracy"] for run in runs]
            yield row([label, each(entries)])
        yield ""


def _seconds(value: Any) -> float:
    """All ``cpu_seconds`` in nested results; a stage's own hold those of its parts."""
    if not isinstance(value, Mapping):
        return 0.0
    return value.get("cpu_seconds", 0.0) or sum(map(_seconds, value.values()))
