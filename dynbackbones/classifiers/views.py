"""What a classifier of patches sees of images: reduced, masked, cut into patches."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dynbackbones.layers.regions import RegionGrid

LOW_MODES = ("bilinear", "nearest")
FILLS = ("mean", "low")


@dataclass(frozen=True)
class View:
    """A batch of images.

    Attributes:
        images: (N, C, H, W).
        low: the same reduced; None where nothing looks at it.
        grid: the patches.
        ran: of each network that saw any of it, what that cost; filled by who runs it.
    """

    images: Tensor
    low: Tensor | None
    grid: RegionGrid
    ran: dict[str, Any] = field(default_factory=dict)

    def of(self, rows: Tensor) -> "View":
        """Some of the images, by their (M,) indices."""
        low = None if self.low is None else self.low[rows]
        return View(self.images[rows], low, self.grid, self.ran)


def reduced_size(height: int, width: int, scale: int) -> tuple[int, int]:
    """Size of the reduced image: rounded, at least one pixel."""
    # In a traced network sizes are tensors.
    return max(1, round(int(height) / scale)), max(1, round(int(width) / scale))


def reduced(images: Tensor, scale: int, mode: str) -> Tensor:
    """Images (N, C, H, W) reduced ``scale`` times; see `reduced_size`."""
    return resized(images, reduced_size(*images.shape[-2:], scale), mode)


def resized(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Images (N, C, H, W) of another (height, width)."""
    if mode == "nearest":
        return F.interpolate(images, size, mode="nearest")
    # Not every device has it in half precision.
    small = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return small.to(images.dtype)


def masked(view: View, actions: Tensor, fill: str) -> Tensor:
    """Images whose dropped patches are blank or show the reduced image; see `PatchDrop`."""
    cells = actions.view(-1, 1, *view.grid.shape)
    kept = view.grid.expand(cells)
    if fill == "mean":
        return torch.where(kept, view.images, 0.0)
    size = view.images.shape[-2:]
    low = F.interpolate(view.low.float(), size, mode="bilinear").to(view.images.dtype)
    return torch.where(kept, view.images, low)


def cut(view: View) -> Tensor:
    """All patches: (N, P, C, h, w).

    Raises:
        ValueError: they would not be of one size.
    """
    (n, c, height, width), (rows, cols) = view.images.shape, view.grid.shape
    if height % rows or width % cols:
        raise ValueError(
            f"images of {height} x {width} do not divide into {rows} x {cols} equal patches, which "
            "a network that sees each patch alone needs; resize or crop them"
        )
    parts = view.images.reshape(n, c, rows, height // rows, cols, width // cols)
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
