"""Boxes of unlabelled images that may hold something, and pairs of them.

Boxes are (n, 4) float32 arrays of x1, y1, x2, y2 in pixels of the upright image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LONGEST_ASPECT = 3.0
"""Length to breadth of the longest box, as EdgeBoxes has it."""


class Proposals(NamedTuple):
    """Boxes of an image, the best first.

    Attributes:
        boxes: (n, 4) float32.
        scores: (n,) float32; without a meaning across methods.
    """

    boxes: np.ndarray
    scores: np.ndarray


def random_boxes(
    height: int, width: int, count: int, size: int, generator: np.random.Generator
) -> np.ndarray:
    """Square boxes anywhere in an image (those of SCN-Random are 5 of 64 pixels).

    Args:
        height, width: of the image.
        count: n.
        size: edge in pixels; at most the image's shorter side.
        generator: draws them.

    Returns:
        (n, 4) float32, whole numbers.
    """
    size = min(size, height, width)
    left = generator.integers(0, width - size, size=count, endpoint=True)
    top = generator.integers(0, height - size, size=count, endpoint=True)
    return np.stack([left, top, left + size, top + size], axis=1).astype(np.float32)


def keep_boxes(
    boxes: np.ndarray,
    scores: np.ndarray,
    *,
    min_score: float = 0.0,
    max_aspect: float = LONGEST_ASPECT,
    min_size: float = 1.0,
) -> np.ndarray:
    """Which boxes are sure, compact and large enough.

    Args:
        boxes: (n, 4).
        scores: (n,).
        min_score: below it a box is left out.
        max_aspect: length to breadth above which it is.
        min_size: pixels of the shorter side below which it is.

    Returns:
        (m,) indices, in the order of the boxes.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    short, long = sides.min(axis=1), sides.max(axis=1)
    compact = long <= max_aspect * np.maximum(short, 1e-6)
    return np.flatnonzero((scores >= min_score) & (short >= min_size) & compact)


def pair_boxes(boxes: np.ndarray, max_iou: float = 1.0) -> np.ndarray:
    """All unordered pairs of boxes that hardly overlap.

    Args:
        boxes: (n, 4).
        max_iou: intersection over union above which a pair is left out.

    Returns:
        (p, 2) indices, the smaller first.
    """
    first, second = np.triu_indices(len(boxes), k=1)
    kept = overlaps(boxes)[first, second] <= max_iou
    return np.stack([first[kept], second[kept]], axis=1)


def overlaps(boxes: np.ndarray) -> np.ndarray:
    """(n, n) intersection over union of boxes (n, 4) with each other."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return common / np.maximum(areas[:, None] + areas[None] - common, 1e-9)
