"""The one threshold with which typical images cost a budget."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from dynbackbones.backbones.targets import one_target
from dynbackbones.errors import UserError
from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.budget import threshold_for
from dynbackbones.zoom.images import ImageSource, as_source

if TYPE_CHECKING:
    from dynbackbones.zoom.wrapper import Zoom

_ROUNDS = 6
Prices = dict[str, float]


def find_threshold(
    zoom: Zoom, images: Iterable[Tensor | ImageSource], targets: Mapping[str, float | None]
) -> float:
    """See `Zoom.calibrate`, whose targets these are by name."""
    name, target = one_target(targets)
    if name == "target_rate" and not 0 <= target <= 1:
        raise ValueError(f"target_rate must lie in [0, 1], got {target}")
    values, prices = [], []
    known: dict[tuple[int, int], Prices] = {}
    for image in images:
        coarse, value = zoom.looks(image)
        values.append(value)
        prices.append(_prices(zoom, image, coarse.grid, name, known))
    if not values:
        raise ValueError("images must not be empty: calibration needs some typical images")
    costs = [parts["crop"] for parts in prices]
    base = sum(parts["coarse"] + parts["policy"] for parts in prices)
    budget = target * len(values) - base
    if budget < 0:
        raise UserError(
            f"{name} {target:.4g} is less than the coarse pass at 1/{zoom.scale:g} costs, "
            f"{base / len(values):.4g}; raise it, or the scale"
        )
    zoom.threshold.fill_(threshold_for(values, costs, budget))
    spent = sum(
        c * int((v > zoom.threshold.to(v)).sum()) for v, c in zip(values, costs, strict=True)
    )
    most = sum(c * len(v) for c, v in zip(costs, values, strict=True))
    if spent < 0.9 * min(budget, most):
        warnings.warn(
            f"equal values keep all but {spent / budget:.0%} of the budget from "
            "being spent by one threshold; a learned policy tells more of them apart, and "
            "rate= takes a share of each image",
            stacklevel=5,
        )
    return float((spent + base) / len(values))


def _prices(
    zoom: Zoom,
    image: Tensor | ImageSource,
    grid: PatchGrid,
    target: str,
    known: dict[tuple[int, int], Prices],
) -> Prices:
    """What the coarse pass, the policy and a crop of an image cost in the target's unit."""
    if target == "target_rate":
        return {"coarse": 0.0, "policy": 0.0, "crop": 1 / len(grid)}
    if target == "target_macs":
        return zoom.prices(grid)
    if grid.size not in known:
        known[grid.size] = measured_prices(zoom, image)
    return known[grid.size]


def measured_prices(zoom: Zoom, image: Tensor | ImageSource) -> Prices:
    """Milliseconds of the coarse pass, of the policy with merging, and of one crop of an image.

    Medians of rounds with as many crops as run at a time; the first round warms up.
    """
    source, rounds = as_source(image), []
    patches = len(PatchGrid(source.size, zoom.patch, zoom.halo))
    crops = min(zoom.batch_crops, patches)
    rate, threshold = zoom.rate, zoom.threshold.clone()
    zoom.rate = crops / patches
    zoom.threshold.fill_(math.nan)  # so that the rate chooses
    try:
        for _ in range(_ROUNDS):
            zoom.run([source])
            rounds.append(zoom.decisions.seconds)
    finally:
        zoom.rate = rate
        zoom.threshold.copy_(threshold)
    times = [
        {
            "coarse": seconds["coarse"],
            "policy": seconds["policy"] + seconds["merge"],
            "crop": seconds["fine"] / crops,
        }
        for seconds in rounds[1:]
    ]
    return {name: 1e3 * statistics.median(t[name] for t in times) for name in times[0]}
