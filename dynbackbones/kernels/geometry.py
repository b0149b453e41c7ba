"""Where a convolution over selected cells reads and writes."""

from typing import NamedTuple

from torch import Tensor


class Geometry(NamedTuple):
    """Where a convolution reads and writes; tables are those of one block in `SelectedCells`.

    Attributes:
        slots: of the source.
        cells, counts: of the result.
        size: (H, W) of the map of the result.
        source_size: (H, W) of that of the source; with a stride cells are pixels.
        cell_size: c.
        dilation, stride: of the convolution.
        relu: whether a sum ends in one.
    """

    slots: Tensor
    cells: Tensor
    counts: Tensor
    size: tuple[int, int]
    source_size: tuple[int, int]
    cell_size: int
    dilation: int = 1
    stride: int = 1
    relu: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """(R, S) of the result."""
        return tuple(-(-length // self.cell_size) for length in self.size)

    @property
    def area(self) -> int:
        """Pixels of a cell."""
        return self.cell_size**2
