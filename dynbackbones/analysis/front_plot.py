"""Quality against computation: the fronts of networks that decide and of those that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FrontPoint:
    """A network.

    Attributes:
        name: of it.
        gmacs: 10^9 multiply-accumulates for an image.
        quality: such as average precision; more is better.
        deviation: of the quality over seeds.
        decides: whether it is a dynamic one.
    """

    name: str
    gmacs: float
    quality: float
    deviation: float = 0.0
    decides: bool = False


def front(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """Those that none is better than at the same cost or less, from the cheapest on."""
    best: list[FrontPoint] = []
    for point in sorted(points, key=lambda point: (point.gmacs, -point.quality)):
        if not best or point.quality > best[-1].quality:
            best.append(point)
    return best


def plot_fronts(points: Sequence[FrontPoint], metric: str, file: Path) -> None:
    """Draws all networks, and a line along each of the two fronts; needs matplotlib.

    Args:
        points: of both kinds.
        metric: what the quality is.
        file: PNG or whatever matplotlib writes; its folder is made.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for decides, label, marker in ((False, "plain", "s"), (True, "dynamic", "o")):
        kind = [point for point in points if point.decides == decides]
        if not kind:
            continue
        line = front(kind)
        (drawn,) = axes.plot(
            [point.gmacs for point in line], [point.quality for point in line], label=label
        )
        axes.errorbar(
            [point.gmacs for point in kind],
            [point.quality for point in kind],
            [point.deviation for point in kind],
            linestyle="none",
            marker=marker,
            capsize=3,
            color=drawn.get_color(),
        )
        for point in kind:
            axes.annotate(
                point.name,
                (point.gmacs, point.quality),
                xytext=(5, -9),
                textcoords="offset points",
                fontsize="x-small",
                color=drawn.get_color(),
            )
    axes.set_xlabel("10^9 multiply-accumulates of the backbone for an image")
    axes.set_ylabel(metric)
    axes.margins(x=0.2)
    axes.grid(alpha=0.3)
    axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
