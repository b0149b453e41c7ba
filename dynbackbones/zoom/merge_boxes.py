"""One list of detections of a coarse pass and of the crops that were looked at closely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.boxes import Boxes, intersections, joined

_COVERED = 0.5
"""Share of the smaller of two boxes that they share if one stands for the other."""
_AT_EDGE = 2.0
"""Pixels from a crop's edge up to which a box may go on beyond it."""


@dataclass(frozen=True)
class MergeRules:
    """How two passes become one.

    Attributes:
        handover: edge in pixels of a square; coarse boxes of at least its area stay where a patch
            was looked at closely, smaller ones give way to what was found there.
        nms: intersection over union above which the lower of two boxes of a class goes.
        most: detections of an image.
    """

    handover: float
    nms: float = 0.5
    most: int = 100


def merge_boxes(
    coarse: Boxes, fine: Mapping[int, Boxes], grid: PatchGrid, rules: MergeRules
) -> Boxes:
    """Merges the detections of one image.

    - A fine box counts if its centre is in its patch, or in its crop over a patch that was not
      looked at.
    - A fine box that a crop cuts off gives way to a coarse one of its class that covers it, which
      then stays.
    - Other coarse boxes centred in a patch that was looked at stay if they are large, see
      `MergeRules.handover`.
    - Of what is left, non-maximum suppression in each class, and the best of it.

    Args:
        coarse: of the reduced image, in pixels of the image.
        fine: of each patch that was looked at, by its number, in pixels of the image.
        grid: the image's.
        rules: of merging.
    """
    looked_at = torch.zeros(len(grid), dtype=torch.bool, device=coarse.boxes.device)
    looked_at[list(fine)] = True
    covers = torch.zeros(len(coarse), dtype=torch.bool, device=coarse.boxes.device)
    kept = []
    for patch, found in fine.items():
        owner = grid.owners(found.centres)
        found = found[(owner == patch) | ~looked_at[owner]]
        cut = _cut_off(found.boxes, grid.crops[patch], grid.size)
        covered = _covered_by(found, coarse) & cut[:, None]
        covers |= covered.any(dim=0)
        kept.append(found[~covered.any(dim=1)])
    replaced = looked_at[grid.owners(coarse.centres)] & (coarse.areas < rules.handover**2)
    result = joined([coarse[~replaced | covers], *kept])
    order = batched_nms(result.boxes.float(), result.scores.float(), result.labels, rules.nms)
    return result[order[: rules.most]]


def _cut_off(boxes: Tensor, crop: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    """(n,) bool, whether boxes touch an edge of their crop that is not the image's."""
    x1, y1, x2, y2 = boxes.unbind(1)
    left, top, right, bottom = crop
    cut = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    if left > 0:
        cut |= x1 <= left + _AT_EDGE
    if top > 0:
        cut |= y1 <= top + _AT_EDGE
    if right < size[1]:
        cut |= x2 >= right - _AT_EDGE
    if bottom < size[0]:
        cut |= y2 >= bottom - _AT_EDGE
    return cut


def _covered_by(fine: Boxes, coarse: Boxes) -> Tensor:
    """(n, m) bool, whether coarse boxes of the class hold most of the smaller of the two."""
    smaller = torch.minimum(fine.areas[:, None], coarse.areas[None])
    shared = intersections(fine.boxes, coarse.boxes)
    same = fine.labels[:, None] == coarse.labels[None]
    # Of a crop's stump: what reaches farther than the crop must be larger than it.
    larger = coarse.areas[None] >= fine.areas[:, None]
    return same & larger & (shared > _COVERED * smaller)
