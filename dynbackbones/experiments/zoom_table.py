"""What zoom finds and costs beside everything that one could do instead."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from dynbackbones.analysis.average_precision import evaluate_boxes
from dynbackbones.experiments.zoom_data import ZoomData
from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.budget import best_of, threshold_at
from dynbackbones.zoom.detector import ZoomDetector
from dynbackbones.zoom.learned import LearnedPolicy
from dynbackbones.zoom.measured import Measured
from dynbackbones.zoom.policies import POLICIES
from dynbackbones.zoom.training import train_policy
from dynbackbones.zoom.wrapper import Zoom

WHOLE, COARSE, EVERY = "one pass, whole image", "coarse pass alone", "every patch"
AP_NAMES = ("AP", "AP50", "APs", "APm", "APl")


@dataclass
class Row:
    """A way to detect in large images.

    Attributes:
        name: what it is called.
        asked: share of patches that it was set to; None where it has none.
        ap: ``AP`` and so on, in percent; of several seeds the mean.
        ap_std: spread of ``AP`` over seeds; None of one.
        rate: share of patches that it looked at.
        pixel_rate: pixels that the detector saw for each of the image.
        gmacs: 10^9 multiply-accumulates of an image.
        ms: of an image, mean, where it was timed.
        speed: time over that of one pass over the whole image, in the same run.
    """

    name: str
    asked: float | None
    ap: dict[str, float | None]
    rate: float
    pixel_rate: float
    gmacs: float
    ap_std: float | None = None
    ms: float | None = None
    speed: float | None = None


class Tables:
    """Rows of a table, of what was measured.

    Args:
        zoom: the wrapped detector.
        data: images to evaluate on.
        measured: of these.
        gains: measured images that policies are trained and calibrated on.
    """

    def __init__(
        self,
        zoom: ZoomDetector,
        data: ZoomData,
        measured: Sequence[Measured],
        gains: Sequence[Measured],
    ) -> None:
        self.zoom, self.data = zoom, data
        self.measured, self.gains = measured, gains

    def policies(
        self, seeds: Sequence[int], settings: Mapping[str, Any], **options: Any
    ) -> list[LearnedPolicy]:
        """A trained policy for each seed; options are those of `train_policy`."""
        described = [m.described for m in self.gains]
        gains = [m.gains for m in self.gains]
        count = self.zoom.adapter.num_classes
        return [
            train_policy(described, gains, count, dict(settings), seed=seed, **options)[0]
            for seed in seeds
        ]

    def fixed(self) -> list[Row]:
        """The coarse pass alone, and every patch."""
        none = [torch.zeros(len(m.grid), dtype=torch.bool) for m in self.measured]
        every = [~mask for mask in none]
        return [self._row(COARSE, 0.0, none), self._row(EVERY, 1.0, every)]

    def whole(self, found: Mapping[int, Boxes]) -> Row:
        """One pass over each whole image."""
        macs = [self.zoom.full_macs(*m.grid.size) for m in self.measured]
        ap = self._ap([found[m.number] for m in self.measured])
        return Row(WHOLE, None, ap, 0.0, 1.0, statistics.fmean(macs) / 1e9)

    def sliced(self, name: str, found: Mapping[int, Boxes], gmacs: float, pixels: float) -> Row:
        """Another library's slices of each image."""
        ap = self._ap([found[m.number] for m in self.measured])
        return Row(name, None, ap, 0.0, pixels, gmacs)

    def heuristics(self, rate: float) -> list[Row]:
        """Policies without training, at a share of patches, by one threshold of other images."""
        rows = []
        for name in POLICIES:
            values = [m.values[name] for m in self.measured]
            threshold = threshold_at([m.values[name] for m in self.gains], rate)
            chosen = [v > threshold for v in values]
            if name == "center":  # the same patches in every image: as many as the share allows
                chosen = [best_of(v, rate) for v in values]
            rows.append(self._row(name, rate, chosen))
        return rows

    def oracle(self, rate: float) -> Row:
        """The patches with the largest true gains."""
        threshold = threshold_at([m.gains + _order(m) for m in self.measured], rate)
        return self._row(
            "oracle", rate, [m.gains + _order(m) > threshold for m in self.measured]
        )

    def learned(
        self, policies: Sequence[LearnedPolicy], rate: float, name: str = "learned"
    ) -> Row:
        """Trained policies, mean over their seeds."""
        rows = []
        for policy in policies:
            threshold = policy.threshold_at(rate)
            with torch.no_grad():
                chosen = [policy.predict(m.described) > threshold for m in self.measured]
            rows.append(self._row(name, rate, chosen))
        return _mean(rows)

    def _row(self, name: str, rate: float, chosen: Sequence[Tensor]) -> Row:
        found = [
            m.merged(mask.nonzero()[:, 0].tolist(), self.zoom.rules)
            for m, mask in zip(self.measured, chosen, strict=True)
        ]
        shares = [float(mask.double().mean()) for mask in chosen]
        share, pixel_rate, macs = spending(self.zoom, [m.grid for m in self.measured], shares)
        return Row(name, rate, self._ap(found), share, pixel_rate, macs / 1e9)

    def _ap(self, found: Sequence[Boxes]) -> dict[str, float | None]:
        detections = [
            entry
            for m, boxes in zip(self.measured, found, strict=True)
            for entry in self.data.detections(m.number, boxes)
        ]
        result = evaluate_boxes(self.data.annotations, detections)
        return {name: result[name] for name in AP_NAMES}


def spending(
    zoom: Zoom, grids: Sequence[PatchGrid], shares: Sequence[float]
) -> tuple[float, float, float]:
    """Means over images: share of patches, pixels seen for each of the image, MACs.

    Args:
        zoom: whose passes they are.
        grids: of the images.
        shares: of patches that are looked at, of each.
    """
    pairs = list(zip(grids, shares, strict=True))
    pixels = [grid.seen(share * len(grid)) + 1 / zoom.scale**2 for grid, share in pairs]
    macs = [zoom.macs(*grid.size, share) for grid, share in pairs]
    return statistics.fmean(shares), statistics.fmean(pixels), statistics.fmean(macs)


def timed(
    ways: Mapping[str, Callable[[Any], object]], images: Iterable[Any]
) -> Iterator[dict[str, float]]:
    """Seconds of each way for each image, the ways in turn, in an order that rotates.

    Args:
        ways: by name; each takes an image.
        images: one at a time.
    """
    names = list(ways)
    for turn, image in enumerate(images):
        seconds = {}
        for index in range(len(names)):
            name = names[(index + turn) % len(names)]
            start = time.perf_counter()
            ways[name](image)
            seconds[name] = time.perf_counter() - start
        yield seconds


def efficiency(rows: Sequence[Row], name: str, rate: float) -> float:
    """How far a policy is on the way from random patches to the oracle's, at a rate."""
    ap = {row.name: row.ap["AP"] for row in rows if row.asked == rate}
    span = ap["oracle"] - ap["random"]
    return (ap[name] - ap["random"]) / span if span else math.nan


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| | asked | AP | AP50 | APs | APm | patches | pixels | GMACs | ms | time |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        spread = "" if row.ap_std is None else f" ± {row.ap_std:.2f}"
        cells = [
            row.name,
            "" if row.asked is None else f"{row.asked:.3g}",
            f"{_shown(row.ap['AP'])}{spread}",
            *(_shown(row.ap[name]) for name in ("AP50", "APs", "APm")),
            "" if row.asked is None else f"{row.rate:.3f}",
            f"{row.pixel_rate:.2f}",
            f"{row.gmacs:.2f}",
            "" if row.ms is None else f"{row.ms:.0f}",
            "" if row.speed is None else f"{row.speed:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain data."""
    return [asdict(row) for row in rows]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _mean(rows: Sequence[Row]) -> Row:
    aps = [row.ap["AP"] for row in rows]
    first = rows[0]
    names = [name for name, value in first.ap.items() if value is not None]
    ap = {**first.ap, **{name: statistics.fmean(r.ap[name] for r in rows) for name in names}}
    means = {
        name: statistics.fmean(getattr(row, name) for row in rows)
        for name in ("rate", "pixel_rate", "gmacs")
    }
    spread = statistics.stdev(aps) if len(aps) > 1 else None
    return Row(first.name, first.asked, ap, **means, ap_std=spread)


def _order(m: Measured) -> Tensor:
    """Far smaller than any gain, and different for each patch, to break ties."""
    return m.values["random"].double() * 1e-6
