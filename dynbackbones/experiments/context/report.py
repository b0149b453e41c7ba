"""Tables of the experiments in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dynbackbones.experiments.context.shapes import ROWS, SCHEDULE
from dynbackbones.experiments.table import heading, row

EPOCHS = (1, 5, 10, 25, 50, 100, SCHEDULE.epochs)
REACHED = 0.1


def shapes_table(results: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    """Errors by epoch, of all seeds."""
    yield "### Shapes"
    yield ""
    yield from heading(
        [
            "error on 200 test pairs / variance of their targets, after epoch",
            *map(str, EPOCHS),
            f"first epoch at {REACHED} or below",
        ]
    )
    for name, title in ROWS.items():
        runs = [run[name]["errors"] for run in results.values()]
        cells = [_each([errors[epoch - 1] for errors in runs]) for epoch in EPOCHS]
        yield row([title, *cells, " / ".join(_first_below(errors) for errors in runs)])
    yield ""


def _first_below(errors: list[float]) -> str:
    reached = (str(e) for e, error in enumerate(errors, start=1) if error <= REACHED)
    return next(reached, "never")


def _each(values: list[float], digits: int = 2) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in values)
