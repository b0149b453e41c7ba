"""The one threshold with which typical images cost a budget."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor

from dynbackbones.errors import UserError
from dynbackbones.zoom.budget import threshold_for
from dynbackbones.zoom.images import ImageSource

if TYPE_CHECKING:
    from dynbackbones.zoom.wrapper import Zoom


def find_threshold(
    zoom: Zoom,
    images: Iterable[Tensor | ImageSource],
    target_rate: float | None,
    target_macs: float | None,
) -> float:
    """See `Zoom.calibrate`."""
    if (target_rate is None) == (target_macs is None):
        raise ValueError("give either target_rate or target_macs")
    if target_rate is not None and not 0 <= target_rate <= 1:
        raise ValueError(f"target_rate must lie in [0, 1], got {target_rate}")
    values, grids = [], []
    for image in images:
        coarse, value = zoom.looks(image)
        values.append(value)
        grids.append(coarse.grid)
    if not values:
        raise ValueError("images must not be empty: calibration needs some typical images")
    if target_rate is not None:
        costs, budget, base = [1 / len(v) for v in values], target_rate * len(values), 0.0
    else:
        prices = [zoom.prices(grid) for grid in grids]
        costs = [parts["crop"] for parts in prices]
        base = sum(parts["coarse"] + parts["policy"] for parts in prices)
        budget = target_macs * len(values) - base
        if budget < 0:
            raise UserError(
                f"target_macs {target_macs:.4g} is less than the coarse pass at 1/"
                f"{zoom.scale:g} costs, {base / len(values):.4g}; raise it, or the scale"
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
