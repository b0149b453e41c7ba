"""Square patches of an image with a margin around them, in whole pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PatchGrid:
    """Divides an image into patches, and gives each the crop that a model looks at.

    A patch's core is what it answers for; cores tile the image. Its crop is larger by a halo, so
    that objects at its border are seen whole. Crops are equally large and shifted inwards at the
    image's borders; a strip at the end that is no wider than the halo belongs to the patch before
    it, instead of costing a crop of its own.

    Args:
        size: (height, width) of the image in pixels.
        edge: of a patch in pixels.
        halo: pixels of a crop on each side of its patch.

    Raises:
        ValueError: the image is empty, the edge not positive, or the halo negative or not smaller
            than the edge.

    Example:
        >>> from dynbackbones.layers.patches import PatchGrid
        >>> grid = PatchGrid((768, 1024), edge=256, halo=32)
        >>> grid.shape, grid.cores[1], grid.crops[1]
        ((3, 4), (256, 0, 512, 256), (224, 0, 544, 320))
    """

    size: tuple[int, int]
    edge: int
    halo: int

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"an image of {self.size[0]}x{self.size[1]} pixels has no patches")
        if self.edge < 1:
            raise ValueError(f"edge must be at least 1 pixel, got {self.edge}")
        if not 0 <= self.halo < self.edge:
            raise ValueError(
                f"halo must be at least 0 and smaller than a patch ({self.edge}), got {self.halo}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return tuple(len(starts) - 1 for starts in self.edges)

    def __len__(self) -> int:
        rows, columns = self.shape
        return rows * columns

    @cached_property
    def edges(self) -> tuple[list[int], list[int]]:
        """Borders of the cores: of the rows, of the columns."""
        return tuple(
            [*range(0, max(length - self.halo, 1), self.edge), length] for length in self.size
        )

    @cached_property
    def cores(self) -> list[Box]:
        """(x1, y1, x2, y2) of each patch, row by row."""
        rows, columns = self.edges
        return [
            (x1, y1, x2, y2)
            for y1, y2 in zip(rows, rows[1:], strict=False)
            for x1, x2 in zip(columns, columns[1:], strict=False)
        ]

    @property
    def crop_size(self) -> tuple[int, int]:
        """(height, width) of every crop."""
        return tuple(min(self.edge + 2 * self.halo, length) for length in self.size)

    def seen(self, crops: float) -> float:
        """Pixels that so many crops show, for each pixel of the image."""
        (height, width), size = self.crop_size, self.size
        return crops * height * width / (size[0] * size[1])

    @cached_property
    def crops(self) -> list[Box]:
        """(x1, y1, x2, y2) of each patch's crop."""
        height, width = self.crop_size
        crops = []
        for x1, y1, _, _ in self.cores:
            left = max(0, min(x1 - self.halo, self.size[1] - width))
            top = max(0, min(y1 - self.halo, self.size[0] - height))
            crops.append((left, top, left + width, top + height))
        return crops

    def owners(self, points: Tensor) -> Tensor:
        """The patch whose core each point lies in, or is nearest to: (n, 2) x, y to (n,)."""
        rows, columns = self.edges
        found = []
        for values, borders in ((points[:, 1], rows), (points[:, 0], columns)):
            inner = torch.tensor(borders[1:-1], dtype=points.dtype, device=points.device)
            found.append(torch.bucketize(values.contiguous(), inner, right=True))
        return found[0] * self.shape[1] + found[1]

    def pool(self, features: Tensor, stride: float) -> tuple[Tensor, Tensor]:
        """Means and maxima of a map over each core.

        Args:
            features: (C, h, w).
            stride: image pixels for each of its pixels.

        Returns:
            Twice (P, C).
        """
        parts = [
            features[(slice(None), *_inside(core, stride, features.shape[1:]))].flatten(1)
            for core in self.cores
        ]
        means = torch.stack([part.mean(dim=1) for part in parts])
        return means, torch.stack([part.amax(dim=1) for part in parts])


def _inside(core: Box, stride: float, size: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of a map that a core covers, at least one of each."""
    slices = []
    for low, high, length in ((core[1], core[3], size[0]), (core[0], core[2], size[1])):
        start = min(int(low / stride), length - 1)
        slices.append(slice(start, min(max(start + 1, round(high / stride)), length)))
    return tuple(slices)
