"""What a model's result for one frame says of a later one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dynbackbones.video.flow import warp
from dynbackbones.video.pairs import Pair

WAYS = ("copy", "warp")
MOVES = ("result", "features")


class Kept(Protocol):
    """A result in a form that can be moved."""

    def moved(self, pair: Pair) -> Kept:
        """What the key's result says of the frame, by optical flow."""

    def finite(self) -> bool:
        """Whether there is neither NaN nor infinity in it."""


@dataclass(frozen=True)
class Maps:
    """Maps over the whole frame, such as logits.

    Attributes:
        values: (C, h, w) float; of any resolution.
        threshold: above which a single map says yes; of more of them the largest counts.
        context: what the model's adapter needs to make a result of them.
    """

    values: Tensor
    threshold: float = 0.0
    context: Any = None

    def labels(self) -> Tensor:
        """(h, w) what the maps say of each place."""
        if len(self.values) == 1:
            return (self.values[0] > self.threshold).long()
        return self.values.argmax(dim=0)

    def moved(self, pair: Pair) -> Maps:
        """Each place takes the values from where it was in the key."""
        return replace(self, values=warp(self.values, pair.to_key))

    def finite(self) -> bool:
        return bool(self.values.isfinite().all())


@dataclass(frozen=True)
class Instances:
    """Objects in pixels of the frame.

    Attributes:
        boxes: (n, 4) float, ``x1, y1, x2, y2``.
        scores: (n,).
        labels: (n,).
        masks: (n, H, W) of the frame's size, if there are any.
        keypoints: (n, K, 2 or more), x and y first, if there are any.
        rows: (n,) which of the key's objects these are; None for all of them.
        context: what the model's adapter needs to make a result of them.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None
    keypoints: Tensor | None = None
    rows: Tensor | None = None
    context: Any = None

    def of(self, values: Any) -> Any:
        """What belongs to these objects, of (n, ...) values of the key's."""
        return values if self.rows is None else values[self.rows]

    def moved(self, pair: Pair) -> Instances:
        """Boxes move by the median flow inside, masks by the flow, keypoints by that there.

        Boxes are cut off at the frame's border; those that have left it are gone.
        """
        if not len(self.boxes):
            return self
        flow = pair.from_key
        boxes = _clipped(self.boxes + _shifts(self.boxes, flow), flow.shape[:2])
        rows = (boxes[:, 2:] > boxes[:, :2]).all(dim=1).nonzero().flatten()
        masks, keypoints = self.masks, self.keypoints
        if masks is not None:
            there = warp(masks[rows].float(), pair.to_key)
            masks = there if masks.is_floating_point() else (there > 0.5).to(masks.dtype)
        if keypoints is not None:
            keypoints = keypoints[rows].clone()
            keypoints[..., :2] += _at(keypoints[..., :2], flow)
        return replace(
            self,
            boxes=boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            masks=masks,
            keypoints=keypoints,
            rows=rows,
        )

    def finite(self) -> bool:
        return bool(self.boxes.isfinite().all())


@dataclass(frozen=True)
class Opaque:
    """A result of which nothing is known: it can be shown again, not moved."""

    result: Any

    def moved(self, pair: Pair) -> Opaque:
        """Never asked for: see `Stream`."""
        raise TypeError(f"a {type(self.result).__name__} cannot be moved")

    def finite(self) -> bool:
        return True


def _shifts(boxes: Tensor, flow: np.ndarray) -> Tensor:
    """(n, 4): the median flow inside each box, for both of its corners."""
    height, width = flow.shape[:2]
    corners = boxes.detach().cpu().double().numpy()
    shifts = np.zeros((len(corners), 2))
    for index, (left, top, right, bottom) in enumerate(corners):
        x = slice(*_inside(left, right, width))
        y = slice(*_inside(top, bottom, height))
        shifts[index] = np.median(flow[y, x].reshape(-1, 2), axis=0)
    return torch.as_tensor(np.tile(shifts, 2)).to(boxes)


def _inside(low: float, high: float, length: int) -> tuple[int, int]:
    """The pixels that an interval covers: at least one, and at most all of them."""
    start = min(max(int(np.floor(low)), 0), length - 1)
    return start, min(max(int(np.ceil(high)), start + 1), length)


def _at(points: Tensor, flow: np.ndarray) -> Tensor:
    height, width = flow.shape[:2]
    places = points.detach().cpu().round().long()
    x, y = places[..., 0].clamp(0, width - 1), places[..., 1].clamp(0, height - 1)
    return torch.as_tensor(flow[y.numpy(), x.numpy()]).to(points)


def _clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)
