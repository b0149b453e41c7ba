"""Starts the Triton programs: shapes, strides, sizes of tiles."""

from typing import Any

import torch
import triton
from torch import Tensor

from dynbackbones.kernels import blending, programs
from dynbackbones.kernels.geometry import Geometry
from dynbackbones.kernels.operators import interpreted
from dynbackbones.kernels.tiles import Tile, Work, run_in_tiles

INTERPRETED = interpreted()
"""Whether Triton's interpreter computes, on the CPU."""


def to_rows(source: Tensor, weight: Tensor, bias: Tensor, where: Geometry) -> Tensor:
    """See `dynbackbones.kernels.operators.to_rows`."""
    groups, total = where.cells.shape
    rows = source.new_empty(groups, total * where.area, len(weight) // groups)
    _convolve(rows, source, weight, bias, where)
    return rows


def add_(out: Tensor, rows: Tensor, weight: Tensor, bias: Tensor, where: Geometry) -> None:
    """See `dynbackbones.kernels.operators.add_`."""
    _convolve(out, rows, weight, bias, where)


def _convolve(
    target: Tensor, source: Tensor, weight: Tensor, bias: Tensor, where: Geometry
) -> None:
    width, taps, channels = weight.shape
    width //= len(where.counts)

    def run(tile: Tile) -> None:
        columns = min(tile.columns, _padded(width))
        programs.convolve[_grid(where, tile, triton.cdiv(width, columns))](
            target,
            source,
            weight,
            bias,
            where.slots,
            where.cells,
            where.counts,
            *_result(target, where),
            *_source(where),
            *_strides(source),
            TAPS=taps,
            FROM_ROWS=source.dim() == 3,
            TO_MAP=target.dim() == 4,
            RELU=where.relu,
            CIN=channels,
            WIDTH=width,
            BN=columns,
            **_constants(source, where, tile, channels),
        )

    kind = ("1x1" if taps == 1 else "3x3") + (" add" if target.dim() == 4 else "")
    run_in_tiles(Work(kind, channels, width, source.dtype), source, run)


def finish_(
    out: Tensor,
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight_1x1: Tensor,
    bias_1x1: Tensor,
    where: Geometry,
) -> None:
    """See `dynbackbones.kernels.operators.finish_`."""
    channels, outputs = rows.shape[2], len(weight_1x1) // len(where.counts)

    def run(tile: Tile) -> None:
        programs.finish[_grid(where, tile)](
            out,
            rows,
            weight,
            bias,
            weight_1x1,
            bias_1x1,
            where.slots,
            where.cells,
            where.counts,
            *_result(out, where),
            *_source(where),
            CIN=channels,
            COUT=outputs,
            RELU=where.relu,
            BN=_padded(channels),
            BC=min(tile.columns, _padded(outputs)),
            **_constants(rows, where, tile, channels),
        )

    run_in_tiles(Work("finish", channels, outputs, rows.dtype), out, run)


def blend_(out: Tensor, base: Tensor, base_weight: Tensor, weight: Tensor, scale: int) -> None:
    """See `dynbackbones.kernels.operators.blend_`."""
    n, channels, height, width = out.shape
    columns = min(256, _padded(channels))
    rows = 4096 // columns
    grid = triton.cdiv(n * height * width, rows), triton.cdiv(channels, columns)
    blending.blend[grid](
        out,
        base,
        base_weight,
        weight,
        n * height * width,
        channels,
        height,
        width,
        *_strides(out),
        *_strides(base),
        SCALE=scale,
        BM=rows,
        BN=columns,
        num_warps=8,
    )


def _padded(channels: int) -> int:
    """Channels of a tile: matrix products need sixteen."""
    return max(16, triton.next_power_of_2(channels))


def _grid(where: Geometry, tile: Tile, parts: int = 1) -> tuple[int, int]:
    groups, total = where.cells.shape
    return triton.cdiv(total * where.area, tile.rows) * parts, groups


def _strides(source: Tensor) -> list[int]:
    """Of images, lines and columns; rows have none."""
    if source.dim() == 3:
        return [0, 0, 0]
    n, channel, y, x = source.stride()
    if channel != 1:
        raise ValueError(f"maps must be channels-last in memory, got strides {source.stride()}")
    return [n, y, x]


def _result(target: Tensor, where: Geometry) -> list[int]:
    return [*where.grid, *where.size, where.cells.shape[1], *_strides(target)]


def _source(where: Geometry) -> list[int]:
    _, images, rows, columns = where.slots.shape
    return [rows, columns, *where.source_size, images * rows * columns]


def _constants(source: Tensor, where: Geometry, tile: Tile, channels: int) -> dict[str, Any]:
    # float32 is multiplied by the switch that cuDNN's convolutions follow too.
    fast = source.dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    return {
        "CELL": where.cell_size,
        "DILATION": where.dilation,
        "STRIDE": where.stride,
        "BM": tile.rows,
        "BK": min(tile.inputs, _padded(channels)),
        "PRECISION": "tf32" if fast else "ieee",
        "UPCAST": INTERPRETED and source.dtype == torch.bfloat16,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
