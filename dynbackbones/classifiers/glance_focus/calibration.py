"""Exits of a network for a budget, from images without labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dynbackbones.classifiers.glance_focus.exits import budget_exits, steps_taken

if TYPE_CHECKING:
    from dynbackbones.classifiers.glance_focus.network import GlanceFocusClassifier


@torch.no_grad()
def whole_sequences(
    net: GlanceFocusClassifier, batches: Iterable[Tensor]
) -> tuple[Tensor, Tensor]:
    """Confidences and costs of images that take all steps.

    Returns:
        (N, T) confidences, and (N, T) multiply-accumulates up to each step.

    Raises:
        ValueError: there are no images.
        UserError: weights or images hold NaN or infinity.
    """
    confidences, costs = [], []
    for batch in batches:
        with net.select("all"):
            net(batch)
        net.decisions.check_finite()
        confidences.append(net.decisions.confidences)
        costs.append(net.decisions.step_macs.cumsum(dim=1))
    if not confidences:
        raise ValueError("images must not be empty: calibration needs some typical images")
    return torch.cat(confidences), torch.cat(costs)


@torch.no_grad()
def meet_budget(
    net: GlanceFocusClassifier,
    images: Tensor | Iterable[Tensor],
    target_rate: float | None,
    target_macs: float | None,
) -> float:
    """See `GlanceFocusClassifier.calibrate`."""
    if (target_rate is None) == (target_macs is None):
        raise ValueError("exits are set for a target_rate or for target_macs; give one")
    if net.selection is not None:
        raise ValueError("calibrate needs the network's own decisions; leave select(...) first")
    training = net.training
    net.eval()
    try:
        confidences, macs = whole_sequences(
            net, [images] if isinstance(images, Tensor) else images
        )
    finally:
        net.train(training)
    if target_rate is None:
        costs, budget, name = macs.mean(dim=0), target_macs, "target_macs"
    else:
        costs = torch.arange(1, net.steps + 1, dtype=torch.float64) / net.steps
        budget, name = target_rate, "target_rate"
    try:
        exits = budget_exits(confidences, costs.tolist(), budget)
    except ValueError as error:
        raise ValueError(f"{name}={budget:g} cannot be met: {error}") from error
    net.exits.copy_(exits)
    return float(costs[steps_taken(confidences, exits) - 1].mean())
