"""What a comparison writes: ``table.md``, ``table.json`` and the plot of the fronts."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from dynbackbones.analysis.front_plot import FrontPoint, plot_fronts
from dynbackbones.experiments.table import Table, heading, row, spread

Results = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Line of the table to seed to cell."""

_COST = "gmacs"
_RATES = ("activation_rate", "block_usage")
PLOT = "fronts.png"


def write(
    table: Table, results: Results, metrics: Sequence[str], left_out: Sequence[str] = ()
) -> None:
    """Writes the files into the work dir of a table.

    Args:
        table: where.
        results: of each line; one without cells is left out.
        metrics: to show; differences are of the first.
        left_out: names of variants that are not run without being asked for.
    """
    content = {"metrics": list(metrics), "results": results}
    table.write(content, _markdown(results, metrics, left_out))
    points = front_points(results, metrics[0])
    # Without matplotlib, which is no requirement, there is no picture.
    if _COST in metrics and len(points) > 1 and find_spec("matplotlib"):
        plot_fronts(points, metrics[0], table.work_dir / PLOT)


def front_points(results: Results, metric: str) -> list[FrontPoint]:
    """Cost and quality of each line, means over its seeds."""
    points = []
    for name, cells in results.items():
        values, costs = _values(cells.values(), metric), _values(cells.values(), _COST)
        if values and costs:
            decides = any(rate in c["metrics"] for c in cells.values() for rate in _RATES)
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            mean, cost = statistics.fmean(values), statistics.fmean(costs)
            points.append(FrontPoint(name, cost, mean, deviation, decides))
    return points


def _markdown(results: Results, metrics: Sequence[str], left_out: Sequence[str]) -> Iterator[str]:
    """Mean and standard deviation over the seeds; differences are paired by seed."""
    reference, first = next(iter(results)), metrics[0]
    yield from heading(["variant", *metrics, f"{first} minus {reference}", "seeds"])
    for name, cells in results.items():
        if not cells:
            continue
        columns = [_column(cells.values(), metric) for metric in metrics]
        pairs = [
            cells[seed]["metrics"][first] - results[reference][seed]["metrics"][first]
            for seed in cells
            if seed in results[reference]
            and _both_have(first, cells[seed], results[reference][seed])
        ]
        difference = spread(pairs, 2) if pairs and name != reference else ""
        yield row([name, *columns, difference, str(len(cells))])
    yield ""
    done = [cell for cells in results.values() for cell in cells.values()]
    minutes = sum(cell["cpu_seconds"] for cell in done) / 60
    yield f"{len(done)} cells, {minutes:.0f} minutes of processor time."
    absent = [name for name in left_out if not results.get(name)]
    if absent:
        yield f"Not run unless named with --only: {', '.join(absent)}."


def _both_have(metric: str, *cells: Mapping[str, Any]) -> bool:
    return all(cell["metrics"].get(metric) is not None for cell in cells)


def _column(cells: Iterable[Mapping[str, Any]], metric: str) -> str:
    values = _values(cells, metric)
    digits = 2 if values and max(map(abs, values)) >= 10 else 4
    return spread(values, digits) if values else ""


def _values(cells: Iterable[Mapping[str, Any]], metric: str) -> list[float]:
    """A network without decisions has no rate, one that finds nothing no precision."""
    found = (cell["metrics"].get(metric) for cell in cells)
    return [value for value in found if value is not None]
