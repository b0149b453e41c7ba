"""What measured times say: a table, and where sparse execution or fewer blocks pay."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dynbackbones.analysis.latency import Timing


def break_even_rate(timings: Sequence[Timing], backbone: str) -> float | None:
    """The activation rate up to which a backbone's sparse execution is the faster one.

    Interpolates linearly between the measured rates.

    Returns:
        None if sparse execution wins or loses at every measured rate, or one of the two executions
        was not measured.
    """
    medians = {
        (timing.candidate.execution, timing.candidate.rate): timing.median
        for timing in timings
        if timing.candidate.backbone == backbone
    }
    rates = sorted(
        rate for execution, rate in medians if execution == "sparse" and ("masked", rate) in medians
    )
    gains = [medians["masked", rate] - medians["sparse", rate] for rate in rates]
    for i in range(1, len(rates)):
        if gains[i - 1] > 0 >= gains[i]:
            part = gains[i - 1] / (gains[i - 1] - gains[i])
            return rates[i - 1] + part * (rates[i] - rates[i - 1])
    return None


@dataclass(frozen=True)
class UsageFit:
    """The line through a backbone's time against the number of blocks kept.

    Attributes:
        seconds_per_block: slope.
        fixed_seconds: time at no block: stem, shortcuts, policy network.
        r_squared: share of the times' variance that the line explains.
        num_blocks: K.
    """

    seconds_per_block: float
    fixed_seconds: float
    r_squared: float
    num_blocks: int

    def seconds(self, usage: float) -> float:
        """The line's value at a share of blocks."""
        return self.fixed_seconds + self.seconds_per_block * usage * self.num_blocks


def fit_usage(
    timings: Sequence[Timing], backbone: str, execution: str, num_blocks: int
) -> UsageFit | None:
    """Fits a line to the median times of a BlockDrop backbone by least squares.

    Returns:
        None where fewer than three numbers of blocks were measured: a line fits any two.
    """
    points = [
        (timing.blocks, timing.median)
        for timing in timings
        if timing.blocks is not None
        and (timing.candidate.backbone, timing.candidate.execution) == (backbone, execution)
    ]
    if len({blocks for blocks, _ in points}) < 3:
        return None
    blocks, medians = zip(*points, strict=True)
    slope, intercept = statistics.linear_regression(blocks, medians)
    correlation = statistics.correlation(blocks, medians) if len(set(medians)) > 1 else 0.0
    return UsageFit(slope, intercept, correlation**2, num_blocks)


def latency_table(timings: Sequence[Timing]) -> str:
    """The figures as text, a line for each candidate; ratios are against the first one."""
    measured = timings[0].cpu_seconds is not None
    width = max(25, *(len(timing.candidate.backbone) + 1 for timing in timings))
    lines = [
        f"{'backbone':<{width}}{'execution':>10}{'rate':>6}{'median ms':>11}{'quartiles':>17}"
        f"{'ratio':>7}{'CPU ms    ratio' if measured else '':>{18 * measured}}{'GMACs':>9}"
        f"{'MAC ratio':>11}"
    ]
    for timing in timings:
        row = timing.to_dict(timings[0])
        # A GPU takes a few milliseconds.
        form = ".2f" if row["median_ms"] < 100 else ".1f"
        quartiles = f"{row['first_quartile_ms']:{form}} - {row['third_quartile_ms']:{form}}"
        rate = "-" if row["rate"] is None else f"{row['rate']:.2f}"
        cpu = f"{row['median_cpu_ms']:>9{form}}{row['cpu_ratio']:>9.2f}" if measured else ""
        lines.append(
            f"{row['backbone']:<{width}}{row['execution'] or '-':>10}{rate:>6}"
            f"{row['median_ms']:>11{form}}{quartiles:>17}{row['ratio']:>7.2f}{cpu}"
            f"{row['macs'] / 1e9:>9.2f}{row['mac_ratio']:>11.2f}"
        )
    return "\n".join(lines)
