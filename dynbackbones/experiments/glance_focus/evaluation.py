"""What a classifier of crops is worth: step by step, by where it looks, and within budgets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dynbackbones.classifiers import GlanceFocusClassifier
from dynbackbones.classifiers.glance_focus.exits import (
    budget_exits,
    searched_exits,
    steps_taken,
)
from dynbackbones.classifiers.glance_focus.learning import look_around
from dynbackbones.classifiers.glance_focus.proposal import Proposal
from dynbackbones.experiments.patchdrop.data import Split

BATCH = 500
PLACES = ("learned", "center", "random")
_ROUNDS = 7
SHARES = (0.1, 0.2, 0.35, 0.5, 0.75)


class Sequences(NamedTuple):
    """All T steps of all images of a split.

    Attributes:
        right: (N, T) bool, whether the prediction after each step is.
        confidences: (N, T).
        corners: (N, T - 1, 2) row and column of each crop.
    """

    right: Tensor
    confidences: Tensor
    corners: Tensor


@torch.no_grad()
def sequences(net: GlanceFocusClassifier, split: Split, place: str = "learned") -> Sequences:
    """All steps with crops at learned places, in the centre, or anywhere (seeded)."""
    net.eval()
    generator = torch.Generator().manual_seed(0)

    def choose(proposed: Proposal) -> tuple[Tensor, Tensor]:
        shape = proposed.place.shape
        chosen = {
            "learned": lambda: proposed.place,
            "center": lambda: torch.full(shape, 0.5),
            "random": lambda: torch.rand(shape, generator=generator),
        }[place]()
        return chosen, chosen[:, 0]

    found = []
    for start in range(0, len(split.labels), BATCH):
        images = split.normalised(slice(start, start + BATCH), None)
        labels = split.labels[start : start + BATCH, None, None]
        looks = look_around(net, images, choose)
        sure, guess = torch.stack(looks.logits, dim=1).softmax(dim=2).max(dim=2, keepdim=True)
        right = (guess == labels).squeeze(2)
        found.append((right, sure.squeeze(2), torch.stack(looks.corners, dim=1)))
    return Sequences(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def covered(corners: Tensor, boxes: Tensor, patch: int) -> float:
    """Mean share of the boxes' area that crops show.

    Args:
        corners: (N, 2) row and column of each crop.
        boxes: (N, 4) top, left, height and width.
        patch: edge of a crop in pixels.
    """
    starts = torch.maximum(corners, boxes[:, :2])
    ends = torch.minimum(corners + patch, boxes[:, :2] + boxes[:, 2:])
    inside = (ends - starts).clamp(min=0).prod(dim=1)
    return float((inside / boxes[:, 2:].prod(dim=1)).mean())


def by_place(net: GlanceFocusClassifier, split: Split) -> dict[str, Any]:
    """Accuracy in percent after each step, and what of the digit the first crop shows."""
    results = {}
    for place in PLACES:
        found = sequences(net, split, place)
        results[place] = {
            "accuracy": [100 * float(a) for a in found.right.float().mean(dim=0)],
            "confidence": [float(c) for c in found.confidences.mean(dim=0)],
            "covered": covered(found.corners[:, 0], split.boxes, net.patch),
        }
    return results


def budgets(
    net: GlanceFocusClassifier,
    calibration: Split,
    val: Split,
    shares: Sequence[float] = SHARES,
) -> list[dict[str, float]]:
    """Exits for budgets, found on some images and used on others.

    Args:
        net: the network.
        calibration, val: images that exits are found on, and those that results are of.
        shares: of what the steps after the glance cost all together.

    Returns:
        For each budget (10^6 MACs) what was asked for, and what was reached, steps and accuracy in
        percent with exits from confidences alone; ``"searched_..."`` the same with exits searched
        by the calibration images' labels. ``"line"`` and ``"alike"`` are accuracies at the cost
        reached: of the straight line between the glance alone and the whole sequence, and of the
        line through all images taking the same number of steps.
    """
    costs = torch.tensor(net.step_macs, dtype=torch.float64)
    known, new = sequences(net, calibration), sequences(net, val)
    alike = [100 * float(a) for a in new.right.double().mean(dim=0)]
    rows = []
    for share in shares:
        budget = float(costs[0] + share * (costs[-1] - costs[0]))
        exits = budget_exits(known.confidences, costs.tolist(), budget)
        plain = _with_exits(new, exits, costs)
        reached, ends = plain["reached_mmacs"] * 1e6, [float(costs[0]), float(costs[-1])]
        searched = searched_exits(known.confidences, known.right, costs.tolist(), budget)
        rows.append(
            {
                "asked_mmacs": budget / 1e6,
                **plain,
                "line": float(np.interp(reached, ends, [alike[0], alike[-1]])),
                "alike": float(np.interp(reached, costs.tolist(), alike)),
                **{f"searched_{k}": v for k, v in _with_exits(new, searched, costs).items()},
            }
        )
    return rows


def _with_exits(found: Sequences, exits: Tensor, costs: Tensor) -> dict[str, float]:
    steps = steps_taken(found.confidences, exits)
    right = found.right.gather(1, steps[:, None] - 1)
    return {
        "reached_mmacs": float(costs[steps - 1].mean()) / 1e6,
        "steps": float(steps.float().mean()),
        "accuracy": 100 * float(right.float().mean()),
    }


@torch.no_grad()
def times(
    net: GlanceFocusClassifier, calibration: Split, val: Split, share: float = SHARES[1]
) -> dict[str, float]:
    """Median milliseconds of processor time of an image, in batches of 64, in turns.

    Args:
        net: the network; its exits are put back.
        calibration, val: images that exits are found on, and those that are timed.
        share: of the budget, see `budgets`.

    Returns:
        Of the glance alone, of exits for the budget, and of all steps.
    """
    net.eval()
    before, images = net.exits.clone(), val.normalised(slice(0, 512), None)
    budget = net.step_macs[0] + share * (net.step_macs[-1] - net.step_macs[0])
    known = sequences(net, calibration).confidences
    net.set_exits(budget_exits(known, net.step_macs, budget).tolist())
    taken: dict[str, list[float]] = {"none": [], "exits": [], "all": []}
    for _ in range(_ROUNDS):
        for kind, seconds in taken.items():
            start = time.process_time()
            for batch in images.split(64):
                with nullcontext() if kind == "exits" else net.select(kind):
                    net(batch)
            seconds.append((time.process_time() - start) / len(images))
    net.exits.copy_(before)
    return {kind: 1e3 * statistics.median(seconds) for kind, seconds in taken.items()}
