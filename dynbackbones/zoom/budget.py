"""How many patches may be looked at: a share of each image's, or one threshold for all images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def best_of(values: Tensor, rate: float) -> Tensor:
    """(P,) bool, the most valuable share of an image's patches; the first of equal ones."""
    count = math.floor(rate * len(values) + 0.5)
    chosen = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    chosen[torch.sort(values, descending=True, stable=True).indices[:count]] = True
    return chosen


def worth_looking(
    values: Tensor, price: float, macs: float, costs: Mapping[str, float]
) -> list[int]:
    """The patches to look at one after the other, the most valuable first, until it ends paying.

    Args:
        values: (P,) what each is expected to gain.
        price: what one must gain at least.
        macs: what may be spent on the image.
        costs: of what ran before, and under ``"crop"`` of one patch.

    Raises:
        ValueError: the price is not a number, or ``macs`` are spent before the first patch.
    """
    before = sum(cost for name, cost in costs.items() if name != "crop")
    if math.isnan(price):
        raise ValueError("price must be a number, what a patch must be expected to gain; got nan")
    if not macs >= before:
        raise ValueError(
            f"macs must be at least the {before:.4g} of the coarse pass and the policy, got "
            f"{macs:.4g}"
        )
    order = torch.sort(values, descending=True, stable=True).indices.tolist()
    worth = [patch for patch in order if float(values[patch]) >= price]
    return [
        patch
        for count, patch in enumerate(worth, start=1)
        if before + count * costs["crop"] <= macs * (1 + 1e-9)
    ]


def threshold_at(values: Sequence[Tensor], rate: float) -> float:
    """`threshold_for` a mean share of each image's patches."""
    return threshold_for(values, [1 / len(v) for v in values], rate * len(values))


def threshold_for(values: Sequence[Tensor], costs: Sequence[float], budget: float) -> float:
    """The lowest threshold whose patches, the most valuable of all images, stay in a budget.

    Args:
        values: (P,) of each image.
        costs: of looking at one patch of each image.
        budget: of all images together, in the same unit.

    Returns:
        Between the value of the last patch that is taken and the next; infinite where none or all
        are. Of patches of equal values none is taken where the budget has not enough for all.
    """
    every = torch.cat([v.detach().double().cpu() for v in values])
    each = torch.cat(
        [
            torch.full((len(v),), float(c), dtype=torch.float64)
            for v, c in zip(values, costs, strict=True)
        ]
    )
    order = torch.sort(every, descending=True, stable=True).indices
    every, spent = every[order], each[order].cumsum(0)
    count = int((spent <= budget * (1 + 1e-9)).sum())
    if count == len(every):
        return -math.inf
    if count == 0:
        return math.inf
    if every[count - 1] == every[count]:
        return float(every[count])
    return float((every[count - 1] + every[count]) / 2)
