"""Exits of a network for a budget, from images without labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dynbackbones.classifiers.glance_focus.exits import budget_exits, searched_exits, steps_taken
from dynbackbones.classifiers.labels import check_labels

if TYPE_CHECKING:
    from dynbackbones.classifiers.glance_focus.network import GlanceFocusClassifier


@torch.no_grad()
def whole_sequences(
    net: GlanceFocusClassifier, batches: Iterable[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """What images come to that take all steps.

    Returns:
        (N, T) confidences, (N, T) predicted classes, and (N, T) multiply-accumulates up to each
        step.

    Raises:
        ValueError: there are no images.
        UserError: weights or images hold NaN or infinity.
    """
    found = []
    for batch in batches:
        with net.select("all"):
            net(batch)
        decisions = net.decisions
        decisions.check_finite()
        costs = decisions.step_macs.cumsum(dim=1)
        found.append((decisions.confidences, decisions.classes, costs))
    if not found:
        raise ValueError("images must not be empty: calibration needs some typical images")
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


@torch.no_grad()
def meet_budget(
    net: GlanceFocusClassifier,
    images: Tensor | Iterable[Tensor],
    target_rate: float | None,
    target_macs: float | None,
    labels: Tensor | None = None,
) -> float:
    """See `GlanceFocusClassifier.calibrate`."""
    if (target_rate is None) == (target_macs is None):
        raise ValueError("exits are set for a target_rate or for target_macs; give one")
    if net.selection is not None:
        raise ValueError("calibrate needs the network's own decisions; leave select(...) first")
    training = net.training
    net.eval()
    try:
        confidences, classes, macs = whole_sequences(
            net, [images] if isinstance(images, Tensor) else images
        )
    finally:
        net.train(training)
    if target_rate is None:
        costs, budget, name = macs.mean(dim=0), target_macs, "target_macs"
    else:
        costs = torch.arange(1, net.steps + 1, dtype=torch.float64) / net.steps
        budget, name = target_rate, "target_rate"
    if labels is not None:
        check_labels(labels, len(classes), net.num_classes)
        right = classes == labels.cpu()[:, None]
    try:
        if labels is None:
            exits = budget_exits(confidences, costs.tolist(), budget)
        else:
            exits = searched_exits(confidences, right, costs.tolist(), budget)
    except ValueError as error:
        raise ValueError(f"{name}={budget:g} cannot be met: {error}") from error
    net.exits.copy_(exits)
    return float(costs[steps_taken(confidences, exits) - 1].mean())
