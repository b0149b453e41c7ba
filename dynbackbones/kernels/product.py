"""A convolution of selected pixels as a product of matrices, in Triton.

The selected pixels of a channel group are rows: row r is pixel r % c^2 of the group's selected cell
r // c^2. CIN and WIDTH are channels of one group, and BM, BN and BK are the rows, output channels
and input channels of a tile.
"""

import triton
import triton.language as tl


@triton.jit
def pixels(index, cells, count, grid_rows, grid_columns, height, width, CELL: tl.constexpr):
    """Image, line and column of rows, and whether there is such a pixel."""
    area: tl.constexpr = CELL * CELL
    cell = tl.load(cells + index // area, mask=index < count * area, other=0)
    image = cell // (grid_rows * grid_columns)
    cell = cell % (grid_rows * grid_columns)
    within = index % area
    y = cell // grid_columns * CELL + within // CELL
    x = cell % grid_columns * CELL + within % CELL
    return image, y, x, (index < count * area) & (y < height) & (x < width)


@triton.jit
def product(
    source, weight, slots,
    index, image, y, x, inside, n,
    grid_rows, grid_columns, height, width, stride_n, stride_y, stride_x,
    TAPS: tl.constexpr, FROM_ROWS: tl.constexpr, CIN: tl.constexpr, WIDTH: tl.constexpr,
    CELL: tl.constexpr, DILATION: tl.constexpr, STRIDE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """(BM, BN) float32: a convolution of a map or of rows, whose 3x3 kernels see zeros elsewhere.

    Source, weight and slots are those of the group; grid, height and width are of the source.
    """
    area: tl.constexpr = CELL * CELL
    blocks: tl.constexpr = (CIN + BK - 1) // BK
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for step in range(TAPS * blocks):
        tap = step // blocks
        k = step % blocks * BK + tl.arange(0, BK)
        if TAPS == 1:
            there = inside
            row = index
            place = image.to(tl.int64) * stride_n + y * stride_y + x * stride_x
        else:
            near_y = y * STRIDE + (tap // 3 - 1) * DILATION
            near_x = x * STRIDE + (tap % 3 - 1) * DILATION
            there = inside & (near_y >= 0) & (near_y < height) & (near_x >= 0) & (near_x < width)
            cell = (image * grid_rows + near_y // CELL) * grid_columns + near_x // CELL
            slot = tl.load(slots + cell, mask=there, other=-1)
            there = there & (slot >= 0)
            row = slot * area + near_y % CELL * CELL + near_x % CELL
            place = image.to(tl.int64) * stride_n + near_y * stride_y + near_x * stride_x
        if FROM_ROWS:
            place = row.to(tl.int64) * CIN
        a = tl.load(
            source + place[:, None] + k[None, :],
            mask=there[:, None] & (k < CIN)[None, :],
            other=0.0,
        )
        b = tl.load(
            weight + n[None, :] * (TAPS * CIN) + tap * CIN + k[:, None],
            mask=(n < WIDTH)[None, :] & (k < CIN)[:, None],
            other=0.0,
        )
        if UPCAST:  # Triton's interpreter does not multiply bfloat16
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    return acc
