"""How well two results for the same frame agree, in [0, 1]."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torchvision.ops import box_iou


class Found(Protocol):
    """Objects: a `Prediction`, or `Instances`.

    Attributes:
        boxes, scores, labels: (n, 4), (n,), (n,).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def pixel_agreement(one: Tensor, other: Tensor) -> float:
    """Share of places with the same label, of (H, W) integers.

    Raises:
        ValueError: the sizes differ.
    """
    if one.shape != other.shape:
        raise ValueError(f"label maps must be of one size, got {one.shape} and {other.shape}")
    return float((one == other).double().mean())


def box_agreement(one: Found, other: Found, score: float = 0.5, iou: float = 0.5) -> float:
    """F1 of boxes that are matched one to one, the best overlaps first, class by class.

    Args:
        one, other: what was found.
        score: boxes below it do not count.
        iou: least overlap of a match.

    Returns:
        2 matches / (boxes of one + boxes of the other); 1 where neither has any.
    """
    first, second = (found.scores >= score for found in (one, other))
    total = int(first.sum() + second.sum())
    if not total:
        return 1.0
    overlaps = box_iou(one.boxes[first].float(), other.boxes[second].float())
    overlaps[one.labels[first][:, None] != other.labels[second][None]] = 0
    matches = 0
    while overlaps.numel() and float(overlaps.max()) >= iou:
        row, column = divmod(int(overlaps.argmax()), overlaps.shape[1])
        overlaps[row], overlaps[:, column] = 0, 0
        matches += 1
    return 2 * matches / total

