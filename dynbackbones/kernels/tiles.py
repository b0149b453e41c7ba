"""Sizes of the tiles that the Triton programs compute, from measurements."""

from typing import NamedTuple

import torch


class Tile(NamedTuple):
    """How a program divides its work.

    Attributes:
        rows: that it computes.
        columns: output channels at a time.
        inputs: input channels at a time.
        warps, stages: of Triton.
    """

    rows: int
    columns: int
    inputs: int
    warps: int
    stages: int


def tile_for(kind: str, channels: int, width: int, dtype: torch.dtype) -> Tile:
    """The tile of a program.

    Args:
        kind: ``"1x1"``, ``"3x3"`` or ``"finish"`` (both, one after the other).
        channels: of a group's input.
        width: of its output.
        dtype: of the map.
    """
    inputs = 32 if dtype == torch.float32 else 64
    if kind == "finish":
        return Tile(64, 64, inputs, 4, 4)
    return Tile(128, 128, inputs, 8, 3)
