"""Tables of the experiments in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dynbackbones.experiments.context import digits, shapes, streets
from dynbackbones.experiments.table import each, heading, row

EPOCHS = (1, 5, 10, 25, 50, 100, shapes.SCHEDULE.epochs)
REACHED = 0.1
Runs = Mapping[int, Mapping[str, Any]]


def markdown(results: Mapping[str, Runs]) -> Iterator[str]:
    """A section for each experiment, figures of all seeds.

    Args:
        results: by experiment and seed.
    """
    tables = {"shapes": shapes_table, "digits": digits_table, "streets": streets_table}
    for part, runs in results.items():
        if not runs:
            continue
        yield f"### {part.capitalize()}"
        yield ""
        yield from tables[part](list(runs.values()))
        yield ""
        yield f"Seeds {', '.join(map(str, runs))}."
        yield ""


def shapes_table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Errors by epoch."""
    yield from heading(
        [
            "error on 200 test pairs / variance of their targets, after epoch",
            *map(str, EPOCHS),
            f"first epoch at {REACHED} or below",
        ]
    )
    for name, title in shapes.ROWS.items():
        errors = [run[name]["errors"] for run in runs]
        cells = [each([each[epoch - 1] for each in errors], 2) for epoch in EPOCHS]
        yield row([title, *cells, " / ".join(map(_first_below, errors))])


def digits_table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Accuracies of both layouts, and errors."""
    titles = [f"{layout} layout" for layout in digits.LAYOUTS]
    errors = [f"error / variance, {title}" for title in titles]
    yield from heading(["class of the unseen digit from", *titles, *errors])
    for name, title in digits.ROWS.items():
        by_layout = [[run[layout][name] for run in runs] for layout in digits.LAYOUTS]
        cells = [each([entry["accuracy"] for entry in entries], 1) for entries in by_layout]
        yield row([title, *cells, *map(_last_errors, by_layout)])


def streets_table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Accuracies and errors."""
    yield from heading(["class of the unseen patch from", "accuracy, %", "error / variance"])
    for name, title in streets.ROWS.items():
        entries = [run[name] for run in runs]
        accuracies = each([entry["accuracy"] for entry in entries], 1)
        yield row([title, accuracies, _last_errors(entries)])


def _last_errors(entries: Sequence[Mapping[str, Any]]) -> str:
    return each([entry["errors"][-1] for entry in entries if "errors" in entry], 2)


def _first_below(errors: Sequence[float]) -> str:
    reached = (str(e) for e, error in enumerate(errors, start=1) if error <= REACHED)
    return next(reached, "never")
