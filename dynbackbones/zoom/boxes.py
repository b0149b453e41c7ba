"""Detections as zoom handles them, whichever framework they come of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Boxes:
    """Detections of one image.

    Attributes:
        boxes: (n, 4) float, ``x1, y1, x2, y2`` in pixels.
        scores: (n,) float.
        labels: (n,) int64, as the detector counts them.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor | slice) -> Boxes:
        return Boxes(self.boxes[index], self.scores[index], self.labels[index])

    @property
    def centres(self) -> Tensor:
        """(n, 2) x, y."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @property
    def areas(self) -> Tensor:
        """(n,) in square pixels."""
        width, height = (self.boxes[:, 2:] - self.boxes[:, :2]).clamp(min=0).unbind(1)
        return width * height

    def scaled(self, x: float, y: float) -> Boxes:
        """In pixels of an image that is wider and higher by these factors."""
        factors = self.boxes.new_tensor([x, y, x, y])
        return Boxes(self.boxes * factors, self.scores, self.labels)

    def shifted(self, x: float, y: float) -> Boxes:
        """In pixels of an image in which theirs is a crop that starts there."""
        return Boxes(self.boxes + self.boxes.new_tensor([x, y, x, y]), self.scores, self.labels)

    def cpu(self) -> Boxes:
        """On the CPU, float32."""
        return Boxes(
            self.boxes.detach().cpu().float(),
            self.scores.detach().cpu().float(),
            self.labels.detach().cpu(),
        )


def joined(parts: Sequence[Boxes]) -> Boxes:
    """The detections of several, in order; at least one of them."""
    return Boxes(
        *(torch.cat([getattr(p, name) for p in parts]) for name in ("boxes", "scores", "labels"))
    )


def intersections(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) square pixels that (n, 4) and (m, 4) boxes share."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low).clamp(min=0).prod(dim=2)
