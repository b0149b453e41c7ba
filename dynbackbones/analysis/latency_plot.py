"""Latency against the rate of computation, with the static network and the limit by MACs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dynbackbones.analysis.latency import Timing


def plot_latency(timings: Sequence[Timing], file: Path) -> None:
    """Draws medians and quartiles over the rates; needs matplotlib.

    The limit is the time of the first network times the ratio of MACs.

    Args:
        timings: of `compare`; the first is what the others are compared with.
        file: PNG or whatever matplotlib writes; its folder is made.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    reference, lines, limited = timings[0], defaultdict(list), set()
    for timing in timings:
        lines[timing.candidate.backbone, timing.candidate.execution].append(timing)
    for (backbone, execution), line in lines.items():
        if line[0].candidate.rate is None:
            axes.axhline(1e3 * line[0].median, linestyle="--", color="grey")
            axes.annotate(
                backbone,
                (0.01, 1e3 * line[0].median),
                xycoords=("axes fraction", "data"),
                va="top",
            )
            continue
        rates, medians = zip(*((t.candidate.rate, 1e3 * t.median) for t in line), strict=True)
        (drawn,) = axes.plot(rates, medians, marker="o", label=f"{backbone}, {execution}")
        lower, upper = zip(*(t.quartiles for t in line), strict=True)
        axes.fill_between(
            rates,
            [1e3 * value for value in lower],
            [1e3 * value for value in upper],
            alpha=0.2,
            color=drawn.get_color(),
        )
        if backbone not in limited:
            limited.add(backbone)
            limits = [1e3 * reference.median * t.macs / reference.macs for t in line]
            label = f"limit of {backbone} by MACs"
            axes.plot(rates, limits, linestyle=":", color=drawn.get_color(), label=label)
    axes.set_xlabel("share of regions or blocks computed")
    axes.set_ylabel("milliseconds")
    axes.set_ylim(bottom=0)
    axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def plot_spending(
    seconds: Sequence[float], aps: Sequence[float], labels: Sequence[str], file: Path
) -> None:
    """Draws average precision against time for each rate; needs matplotlib.

    Args:
        seconds: per image.
        aps: average precision in percent.
        labels: of the points.
        file: see `plot_latency`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    milliseconds = [1e3 * value for value in seconds]
    axes.plot(milliseconds, aps, marker="o")
    for point in zip(milliseconds, aps, labels, strict=True):
        axes.annotate(point[2], point[:2], xytext=(4, -12), textcoords="offset points")
    axes.set_xlabel("milliseconds for an image")
    axes.set_ylabel("AP")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
