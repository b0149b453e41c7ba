"""Where an image's details matter, as training may tell a network that chooses regions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOLD = ("objects", "borders", "classes")
"""What a network may be told: boxes of objects, borders between classes, what is of some."""
KINDS = ("none", *TOLD, "gain")
"""What may guide: nothing, what it is told, and what refining takes off the task's loss."""


@dataclass(frozen=True)
class Guidance:
    """What matters in each image of a batch, in pixels of the tensor that a backbone gets.

    Attributes:
        boxes: for each image (n, 4), x1, y1, x2, y2; or
        maps: (N, H, W), importance of each pixel in [0, 1]; pixels beyond do not matter.

    Raises:
        ValueError: neither or both are given, or one has another shape.
    """

    boxes: Sequence[Tensor] | None = None
    maps: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.boxes is None) == (self.maps is None):
            raise ValueError("guidance needs either boxes or maps")
        for boxes in self.boxes or ():
            if boxes.dim() != 2 or boxes.shape[1] != 4:
                raise ValueError(f"boxes must be (n, 4) for each image, got {tuple(boxes.shape)}")
        if self.maps is not None and self.maps.dim() != 3:
            raise ValueError(f"maps must be (N, H, W), got {tuple(self.maps.shape)}")

    def __len__(self) -> int:
        return len(self.maps if self.boxes is None else self.boxes)

    def importance(self, row_edges: Tensor, col_edges: Tensor) -> Tensor:
        """How much each cell matters: that of its most important pixel, 1 where a box touches it.

        Args:
            row_edges, col_edges: (R + 1,) and (S + 1,) borders of the cells in pixels.

        Returns:
            (N, R, S) float32.
        """
        if self.boxes is not None:
            return torch.stack([_touched(b, row_edges, col_edges) for b in self.boxes])
        values = self.maps.to(row_edges.device, torch.float32)
        for axis, edges in ((1, row_edges), (2, col_edges)):
            cells = zip(edges.tolist(), edges[1:].tolist(), strict=False)
            values = torch.stack([_most(values, axis, a, b) for a, b in cells], dim=axis)
        return values


def _most(maps: Tensor, axis: int, begin: int, end: int) -> Tensor:
    """The largest of these rows or columns, 0 where there are none."""
    length = min(end, maps.shape[axis]) - begin
    if length < 1:
        return torch.zeros_like(maps.select(axis, 0))
    return maps.narrow(axis, begin, length).amax(dim=axis)


def _touched(boxes: Tensor, row_edges: Tensor, col_edges: Tensor) -> Tensor:
    boxes = boxes.detach().to(row_edges.device, torch.float32)
    # A box without an area is none.
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
    x1, y1, x2, y2 = (side[:, None] for side in boxes.unbind(dim=1))
    rows = (row_edges[:-1] < y2) & (row_edges[1:] > y1)
    columns = (col_edges[:-1] < x2) & (col_edges[1:] > x1)
    return (rows[:, :, None] & columns[:, None, :]).any(dim=0).float()
