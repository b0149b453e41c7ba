"""Exits of a network for a budget, from images without labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dynbackbones.backbones.targets import one_target
from dynbackbones.backbones.timing import milliseconds_of
from dynbackbones.classifiers.glance_focus.exits import budget_exits, searched_exits, steps_taken
from dynbackbones.classifiers.labels import check_labels

if TYPE_CHECKING:
    from dynbackbones.classifiers.glance_focus.network import GlanceFocusClassifier

_ROUNDS = 9


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
    targets: Mapping[str, float | None],
    labels: Tensor | None = None,
) -> float:
    """See `GlanceFocusClassifier.calibrate`, whose targets these are by name."""
    name, budget = one_target(targets)
    if net.selection is not None:
        raise ValueError("calibrate needs the network's own decisions; leave select(...) first")
    batches = iter([images] if isinstance(images, Tensor) else images)
    first = list(itertools.islice(batches, 1))  # times are measured on it; the others pass by
    with _in_evaluation(net):
        confidences, classes, macs = whole_sequences(net, itertools.chain(first, batches))
        if name == "target_macs":
            costs = macs.mean(dim=0)
        elif name == "target_ms":
            costs = step_milliseconds(net, first[0])
        else:
            costs = torch.arange(1, net.steps + 1, dtype=torch.float64) / net.steps
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
    return float(costs[steps_taken(confidences, net.exits.cpu()) - 1].mean())


def step_milliseconds(net: GlanceFocusClassifier, images: Tensor) -> Tensor:
    """(T,) milliseconds of an image that leaves after each step, measured.

    In the median of rounds in which all numbers of steps take turns, so that a busy machine hits
    them alike; of an image alone.

    Args:
        net: in evaluation mode, as it will run.
        images: (N, C, H, W), of which the first few are taken.
    """
    times = torch.zeros(_ROUNDS, net.steps, dtype=torch.float64)
    for turn in range(_ROUNDS):
        image = images[turn % len(images)][None]
        for step in range(1, net.steps + 1):
            with net.select("first", rate=step / net.steps):
                times[turn, step - 1] = milliseconds_of(net, image)
    # The first round warms up; and more steps take more time, if only what rounding takes.
    least = 1e-6 * torch.arange(net.steps, dtype=torch.float64)
    return times[1:].median(dim=0).values.cummax(dim=0).values + least


@contextmanager
def _in_evaluation(net: GlanceFocusClassifier) -> Iterator[None]:
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)
