"""What a closer look at each patch of an image is worth, against the truth."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.boxes import Boxes, intersections

IOU_THRESHOLDS = (0.5, 0.75)


def detection_gains(
    coarse: Boxes,
    fine: Mapping[int, Boxes],
    grid: PatchGrid,
    truth: Boxes,
    handover: float,
) -> Tensor:
    """(P,) utility of each patch after a closer look minus that of the coarse pass.

    The `utility` is of boxes centred in the patch. What is centred in a patch depends on no other,
    so the gains of several patches add up (after EfficientObjectDetection, Uzkent et al., WACV
    2020: its reward is separable, too).

    Args:
        coarse: of the reduced image, in pixels of the image.
        fine: of the crop of every patch, in pixels of the image.
        grid: the image's.
        truth: objects, scores unused; labels as the detector counts them.
        handover: see `MergeRules`; larger coarse boxes stay.
    """
    owners = grid.owners(truth.centres)
    coarse_owners = grid.owners(coarse.centres)
    large = coarse.areas >= handover**2
    gains = torch.zeros(len(grid))
    for patch in range(len(grid)):
        objects = truth[owners == patch]
        before = coarse[coarse_owners == patch]
        found = fine[patch]
        after = found[grid.owners(found.centres) == patch]
        kept = coarse[(coarse_owners == patch) & large]
        gains[patch] = utility(after, objects, kept) - utility(before, objects)
    return gains


def utility(found: Boxes, objects: Boxes, also: Boxes | None = None) -> float:
    """How much detections tell of objects, mean over ``IOU_THRESHOLDS``.

    Detections are matched greedily, the surest first. A match counts its score, another detection
    half the square of its score, negative: as in average precision what is unsure neither helps nor
    harms much. Counting finds above a score instead put the best patches in another order than
    average precision does.

    Args:
        found: detections.
        objects: the truth.
        also: further detections, which count where ``found`` missed an object and cost nothing.
    """
    total = 0.0
    for threshold in IOU_THRESHOLDS:
        hits, wrong = _match(found, objects, threshold)
        if also is not None and len(also):
            hits = torch.maximum(hits, _match(also, objects, threshold)[0])
        total += float(hits.sum()) - wrong
    return total / len(IOU_THRESHOLDS)


def _match(found: Boxes, objects: Boxes, threshold: float) -> tuple[Tensor, float]:
    """(m,) scores with which objects are found, 0 if they are not, and what false alarms cost."""
    hits = torch.zeros(len(objects))
    if not len(found):
        return hits, 0.0
    shared = intersections(found.boxes, objects.boxes)
    overlaps = shared / (found.areas[:, None] + objects.areas[None] - shared).clamp(min=1e-9)
    overlaps[found.labels[:, None] != objects.labels[None]] = 0
    wrong = 0.0
    for index in torch.sort(found.scores, descending=True, stable=True).indices:
        free = overlaps[index] * (hits == 0)
        score = float(found.scores[index])
        if len(free) and free.max() >= threshold:
            hits[free.argmax()] = score
        else:
            wrong += 0.5 * score**2
    return hits, wrong
