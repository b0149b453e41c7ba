"""Boxes that wholly contain many edges, and so perhaps an object.

After Zitnick and Dollar, Edge Boxes: Locating Object Proposals from Edges, ECCV 2014. Theirs reads
a learned edge detector; here edges are gradients outside of texture, which needs no model. Theirs
weighs a group of edges by the likelihood that it goes on beyond the box; here it counts if it is
wholly inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np

from dynbackbones.data.images import import_cv2
from dynbackbones.data.proposals import LONGEST_ASPECT, Proposals

# Overlap of neighbouring windows and the exponent that large boxes pay are the paper's. Boxes that
# overlap by less than 0.75 are told apart there; of few boxes 0.5 finds more objects.
_ALPHA, _BETA, _KAPPA = 0.65, 0.5, 1.5
_WEAKEST_EDGE = 0.1
# Pixels of the blur before edges are looked for and of the neighbourhood that tells texture, and
# the share of the pixels below the strongest edges.
_BLUR, _TEXTURE, _SATURATED = 2.5, 5.0, 0.98
_DIRECTIONS = 4
# Windows that are told apart, and how many for each box are moved to where their score is highest.
_CANDIDATES, _REFINED = 4000, 4
_FINEST_MOVE = 2.0


class EdgeGroups(NamedTuple):
    """Edges that touch and run in one direction.

    Attributes:
        boxes: (g, 4) float32, what each takes up.
        strength: (g,) float32, the sum of its edges' magnitudes.
        summed: (H + 1, W + 1) sums of the magnitudes above and left of each pixel.
    """

    boxes: np.ndarray
    strength: np.ndarray
    summed: np.ndarray


def edge_boxes(
    image: np.ndarray,
    count: int = 8,
    *,
    max_aspect: float = LONGEST_ASPECT,
    min_size: float = 16,
) -> Proposals:
    """The best boxes of an image.

    Args:
        image: (H, W, 3) uint8, RGB.
        count: how many at most.
        max_aspect: length to breadth of the longest.
        min_size: shortest side in pixels.

    Returns:
        At most ``count`` boxes; none for an image without edges.

    Raises:
        ValueError: the image is of another shape or type.
        UserError: OpenCV is not installed.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}; convert it to RGB"
        )
    groups = edge_groups(image)
    found = [
        (boxes, scores)
        for boxes, scores in _windows(groups, *image.shape[:2], max_aspect, min_size)
        if len(boxes)
    ]
    if not found or not len(groups.boxes):
        return Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    boxes, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    best = np.argsort(-scores, kind="stable")[:_CANDIDATES]
    best = best[_told_apart(boxes[best], scores[best])[: _REFINED * count]]
    boxes, scores = _refine(groups, boxes[best], scores[best], image.shape, max_aspect, min_size)
    kept = [index for index in _told_apart(boxes, scores) if scores[index] > 0][:count]
    return Proposals(boxes[kept], scores[kept])


def edge_groups(image: np.ndarray) -> EdgeGroups:
    """The edges of an image.

    Args:
        image: (H, W, 3) uint8.

    Raises:
        UserError: OpenCV is not installed.
    """
    cv2 = import_cv2()
    magnitude, across, down = _gradient(cv2, image)
    turn = np.mod(np.arctan2(down, across), math.pi) / math.pi * _DIRECTIONS
    direction = np.round(turn).astype(int) % _DIRECTIONS
    magnitude[~_ridge(magnitude, direction) | (magnitude < _WEAKEST_EDGE)] = 0
    boxes, strength = [], []
    for each in range(_DIRECTIONS):
        edges = ((direction == each) & (magnitude > 0)).astype(np.uint8)
        total, labels, stats, _ = cv2.connectedComponentsWithStats(edges, connectivity=8)
        sums = np.bincount(labels.ravel(), magnitude.ravel(), minlength=total)
        corner, size = stats[1:, :2], stats[1:, 2:4]
        boxes.append(np.concatenate([corner, corner + size], axis=1))
        strength.append(sums[1:])
    return EdgeGroups(
        np.concatenate(boxes).astype(np.float32),
        np.concatenate(strength).astype(np.float32),
        cv2.integral(magnitude),
    )


def _gradient(cv2: ModuleType, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How strongly and where to an image changes, at most 1; little in what is mere texture."""
    lab = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), (0, 0), _BLUR)
    across, down = (cv2.Sobel(lab, cv2.CV_32F, x, 1 - x) for x in (1, 0))
    squares = (across**2).sum(2), (down**2).sum(2), (across * down).sum(2)
    xx, yy, xy = (cv2.GaussianBlur(part, (0, 0), _TEXTURE) for part in squares)
    # Of the structure tensor: 1 along an edge, 0 where edges run in all directions.
    coherence = np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 1e-6)
    magnitude = np.sqrt(squares[0] + squares[1])
    highest = max(float(np.quantile(magnitude, _SATURATED)), 1e-6)
    strongest = np.hypot(across, down).argmax(axis=2)[..., None]
    direction = (np.take_along_axis(part, strongest, 2)[..., 0] for part in (across, down))
    return np.minimum(magnitude / highest, 1) * coherence, *direction


def _ridge(magnitude: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Where no neighbour across the edge is stronger."""
    padded = np.pad(magnitude, 1)
    height, width = magnitude.shape
    highest = np.zeros_like(magnitude, dtype=bool)
    for each, (x, y) in enumerate(((1, 0), (1, 1), (0, 1), (-1, 1))):
        sides = [
            padded[1 + s * y : 1 + s * y + height, 1 + s * x : 1 + s * x + width] for s in (1, -1)
        ]
        # Of two that are as strong, one.
        highest |= (direction == each) & (magnitude >= sides[0]) & (magnitude > sides[1])
    return highest


def _windows(
    groups: EdgeGroups, height: int, width: int, max_aspect: float, min_size: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Boxes of each size on a grid, with their scores."""
    left, top, right, bottom = groups.boxes.T
    for w, h in _sizes(height, width, max_aspect, min_size):
        step = (1 - _ALPHA) / (1 + _ALPHA)
        xs, ys = _places(width, w, step), _places(height, h, step)
        # Inside means inside along both axes, so that a product counts all boxes of a size.
        along_x = (left >= xs[:, None]) & (right <= xs[:, None] + w)
        along_y = (top >= ys[:, None]) & (bottom <= ys[:, None] + h)
        inside = (along_y * groups.strength) @ along_x.T.astype(np.float32)
        x, y = np.meshgrid(xs, ys)
        boxes = np.stack([x, y, x + w, y + h], axis=-1).reshape(-1, 4).astype(np.float32)
        yield boxes, _score(groups, boxes, inside.reshape(-1))


def _sizes(
    height: int, width: int, max_aspect: float, min_size: float
) -> Iterator[tuple[float, float]]:
    """Widths and heights, of neighbours that overlap by alpha."""
    ratio_step = ((1 + _ALPHA) / (2 * _ALPHA)) ** 2
    turns = int(math.log(max_aspect) / math.log(ratio_step))
    side = float(min_size)
    while side <= max(height, width):
        for turn in range(-turns, turns + 1):
            stretch = ratio_step ** (turn / 2)
            w, h = side * stretch, side / stretch
            if min(w, h) >= min_size and w <= width and h <= height:
                yield w, h
        side /= math.sqrt(_ALPHA)


def _places(length: int, size: float, step: float) -> np.ndarray:
    """Where boxes of a size begin along an axis."""
    room = length - size
    return np.linspace(0, room, 1 + math.ceil(room / (step * size)))


def _score(groups: EdgeGroups, boxes: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Edges wholly inside, less those around the centre, for the length of the border."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = np.concatenate([boxes[:, :2] + sides / 4, boxes[:, 2:] - sides / 4], axis=1)
    x1, y1, x2, y2 = np.round(centre).astype(int).T
    summed = groups.summed
    middle = summed[y2, x2] - summed[y1, x2] - summed[y2, x1] + summed[y1, x1]
    return ((inside - middle) / (2 * sides.sum(axis=1)) ** _KAPPA).astype(np.float32)


def _refine(
    groups: EdgeGroups,
    boxes: np.ndarray,
    scores: np.ndarray,
    shape: tuple[int, ...],
    max_aspect: float,
    min_size: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Moves one side of each box where that is better, by ever smaller steps."""
    limit = np.array([shape[1], shape[0], shape[1], shape[0]], np.float32)
    moves = np.concatenate([np.eye(4), -np.eye(4)]).astype(np.float32)
    step = (boxes[:, 2:] - boxes[:, :2]).mean(axis=1) * (1 - _ALPHA) / (1 + _ALPHA) / 2
    rows = np.arange(len(boxes))
    while step.max(initial=0) >= _FINEST_MOVE:
        tried = np.clip(boxes[:, None] + moves * step[:, None, None], 0, limit)
        flat = tried.reshape(-1, 4)
        short, long = np.sort(flat[:, 2:] - flat[:, :2], axis=1).T
        allowed = (short >= min_size) & (long <= max_aspect * short)
        found = np.full(len(flat), -np.inf, np.float32)
        found[allowed] = _score(groups, flat[allowed], _inside(groups, flat[allowed]))
        found = found.reshape(len(boxes), -1)
        best = found.argmax(axis=1)
        better = found[rows, best] > scores
        boxes = np.where(better[:, None], tried[rows, best], boxes)
        scores = np.where(better, found[rows, best], scores)
        step = step / 2
    return boxes, scores


def _inside(groups: EdgeGroups, boxes: np.ndarray) -> np.ndarray:
    """The strength of the groups that lie wholly in each box."""
    within = np.ones((len(boxes), len(groups.boxes)), bool)
    for axis in (0, 1):
        within &= groups.boxes[:, axis] >= boxes[:, axis, None]
        within &= groups.boxes[:, axis + 2] <= boxes[:, axis + 2, None]
    return within @ groups.strength


def _told_apart(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Indices of boxes, the best first, of which none is nearly another one."""
    import torch
    from torchvision.ops import nms

    return nms(torch.from_numpy(boxes), torch.from_numpy(scores), _BETA).tolist()
