"""Which cells of a feature map are computed, in tables that stay on the device.

Shapes: N images, B blocks, G channel groups, R x S cells of c x c pixels of an H x W map. A cell at
the lower or right border may reach out of it.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class SelectedCells(NamedTuple):
    """The cells that one block computes, without any size that depends on how many they are.

    The tables are those of all blocks of a stage, of which compilers would copy parts.

    Attributes:
        slots: (B, G, N, R, S) int32, the place of each cell among those of its group, -1 where it
            is not selected.
        cells: (B, G, N * R * S) int32, the selected cells in order, as index into (N, R, S); what
            stands behind the last of them means nothing.
        counts: (B, G) int32, how many they are.
        block: which of the blocks it is.
        size: c, edge of a cell in pixels.
    """

    slots: Tensor
    cells: Tensor
    counts: Tensor
    block: int
    size: int

    @classmethod
    def from_masks(cls, masks: Tensor, size: int) -> "list[SelectedCells]":
        """The tables of all blocks of a stage, without waiting for the device.

        Args:
            masks: (N, B, G, R, S) bool.
            size: c.

        Example:
            >>> import torch
            >>> from dynbackbones.kernels.cells import SelectedCells
            >>> mask = torch.tensor([[0, 1], [1, 0]]).bool().view(1, 1, 1, 2, 2)
            >>> (block,) = SelectedCells.from_masks(mask, 4)
            >>> block.slots.flatten().tolist(), block.cells.flatten()[: int(block.counts)].tolist()
            ([-1, 0, 1, -1], [1, 2])
        """
        n, blocks, groups, rows, columns = masks.shape
        flat = masks.permute(1, 2, 0, 3, 4).reshape(blocks * groups, n * rows * columns)
        slots, cells, counts = _ranked(flat)
        tables = (
            slots.view(blocks, groups, n, rows, columns),
            cells.view(blocks, groups, n * rows * columns),
            counts.view(blocks, groups),
        )
        return [cls(*tables, block, size) for block in range(blocks)]

    @classmethod
    def from_images(cls, keep: Tensor, height: int, width: int) -> "list[SelectedCells]":
        """The tables of blocks that run on whole images, with cells of one pixel.

        Args:
            keep: (N, B) bool.
            height, width: of the map.
        """
        n, blocks = keep.shape
        pixels = height * width
        ranks, images, counts = _ranked(keep.t())
        pixel = torch.arange(pixels, dtype=torch.int32, device=keep.device)
        slots = torch.where(ranks.unsqueeze(2) < 0, -1, ranks.unsqueeze(2) * pixels + pixel)
        cells = images.unsqueeze(2) * pixels + pixel
        tables = (
            slots.view(blocks, 1, n, height, width),
            cells.view(blocks, 1, n * pixels),
            (counts * pixels).view(blocks, 1),
        )
        return [cls(*tables, block, 1) for block in range(blocks)]

    def pixels(self, height: int, width: int) -> Tensor:
        """(N, G, H, W) bool, the pixels of the selected cells."""
        selected = (self.slots[self.block] >= 0).transpose(0, 1)
        n, groups, rows, columns = selected.shape
        large = selected[:, :, :, None, :, None].expand(-1, -1, -1, self.size, -1, self.size)
        large = large.reshape(n, groups, rows * self.size, columns * self.size)
        return large[:, :, :height, :width]


def _ranked(flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row of bools: ranks of what is true (else -1), their places, and how many they are.

    Args:
        flat: (L, M) bool.

    Returns:
        (L, M), (L, M) and (L,) int32.
    """
    # What is computed from a transposed tensor would be transposed in memory, too.
    flat, length = flat.contiguous(), flat.shape[1]
    ranks = flat.cumsum(1, dtype=torch.int32)
    counts = ranks[:, -1].contiguous()
    ranks = torch.where(flat, ranks - 1, -1)
    # What is false all goes to one place behind the others.
    places = torch.where(flat, ranks, length).long()
    index = torch.arange(length, dtype=torch.int32, device=flat.device).expand_as(flat)
    found = index.new_zeros(len(flat), length + 1).scatter_(1, places, index)
    return ranks, found[:, :length].contiguous(), counts
