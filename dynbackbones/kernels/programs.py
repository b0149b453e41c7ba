"""Triton programs that convolve selected pixels, behind `dynbackbones.kernels.operators`.

A program computes some of a channel group's rows (see `dynbackbones.kernels.product`). There is
room for as many rows as the map has pixels, and a program whose rows lie behind the last one
returns at once, so that nobody needs to know how many there are before the launch.

In all of them CIN, WIDTH and COUT are channels of one group, and BM, BN and BK are the rows, output
channels and input channels of a tile.
"""

import triton
import triton.language as tl

from dynbackbones.kernels.product import pixels, product


@triton.jit
def _load_map(target, place, inside, n, known):
    mask = inside[:, None] & known[None, :]
    return tl.load(target + place[:, None] + n[None, :], mask=mask, other=0.0)


@triton.jit
def _store_sum(target, place, inside, n, known, values, before, bias, RELU: tl.constexpr):
    """Writes values, bias and what stood in the map before into it."""
    shift = tl.load(bias + n, mask=known, other=0.0).to(tl.float32)
    values = values + shift[None, :] + before.to(tl.float32)
    if RELU:
        values = tl.maximum(values, 0.0)
    mask = inside[:, None] & known[None, :]
    pointers = target + place[:, None] + n[None, :]
    tl.store(pointers, values.to(target.dtype.element_ty), mask=mask)


@triton.jit
def convolve(
    target, source, weight, bias, slots, cells, counts,
    grid_rows, grid_columns, height, width, total, stride_n, stride_y, stride_x,
    source_grid_rows, source_grid_columns, source_height, source_width, source_total,
    source_n, source_y, source_x,
    TAPS: tl.constexpr, FROM_ROWS: tl.constexpr, TO_MAP: tl.constexpr, RELU: tl.constexpr,
    CIN: tl.constexpr, WIDTH: tl.constexpr,
    CELL: tl.constexpr, DILATION: tl.constexpr, STRIDE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """A convolution and its bias: with a ReLU to rows, or added to a map in place."""
    area: tl.constexpr = CELL * CELL
    parts: tl.constexpr = (WIDTH + BN - 1) // BN
    group = tl.program_id(1)
    start = tl.program_id(0) // parts * BM
    count = tl.load(counts + group)
    if start >= count * area:
        return
    index = start + tl.arange(0, BM)
    n = tl.program_id(0) % parts * BN + tl.arange(0, BN)
    image, y, x, inside = pixels(
        index, cells + group * total, count, grid_rows, grid_columns, height, width, CELL
    )
    if FROM_ROWS:
        own = source + group.to(tl.int64) * source_total * area * CIN
    else:
        own = source + group * CIN
    place = image.to(tl.int64) * stride_n + y * stride_y + x * stride_x + group * WIDTH
    if TO_MAP:  # early, so that it is there when it is needed
        before = _load_map(target, place, inside, n, n < WIDTH)
    values = product(
        own, weight + group * WIDTH * TAPS * CIN, slots + group * source_total,
        index, image, y, x, inside, n,
        source_grid_rows, source_grid_columns, source_height, source_width,
        source_n, source_y, source_x,
        TAPS, FROM_ROWS, CIN, WIDTH, CELL, DILATION, STRIDE, BM, BN, BK, PRECISION, UPCAST,
    )  # fmt: skip
    if TO_MAP:
        own_bias = bias + group * WIDTH
        _store_sum(target, place, inside, n, n < WIDTH, values, before, own_bias, RELU)
    else:
        shift = tl.load(bias + group * WIDTH + n, mask=n < WIDTH, other=0.0).to(tl.float32)
        values = tl.maximum(values + shift[None, :], 0.0)
        rows = (group.to(tl.int64) * total * area + index) * WIDTH
        mask = (index < count * area)[:, None] & (n < WIDTH)[None, :]
        tl.store(target + rows[:, None] + n[None, :], values.to(target.dtype.element_ty), mask)


@triton.jit
def finish(
    target, rows, weight, bias, weight_1x1, bias_1x1, slots, cells, counts,
    grid_rows, grid_columns, height, width, total, stride_n, stride_y, stride_x,
    source_grid_rows, source_grid_columns, source_height, source_width, source_total,
    CIN: tl.constexpr, COUT: tl.constexpr, RELU: tl.constexpr,
    CELL: tl.constexpr, DILATION: tl.constexpr, STRIDE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """A 3x3 convolution of rows, ReLU and a 1x1 convolution, added to a map in place.

    What is between both convolutions stays in registers, in tiles of BC output channels.
    """
    area: tl.constexpr = CELL * CELL
    group = tl.program_id(1)
    start = tl.program_id(0) * BM
    count = tl.load(counts + group)
    if start >= count * area:
        return
    index = start + tl.arange(0, BM)
    n = tl.arange(0, BN)
    image, y, x, inside = pixels(
        index, cells + group * total, count, grid_rows, grid_columns, height, width, CELL
    )
    values = product(
        rows + group.to(tl.int64) * source_total * area * CIN,
        weight + group * CIN * 9 * CIN, slots + group * source_total,
        index, image, y, x, inside, n,
        source_grid_rows, source_grid_columns, source_height, source_width, 0, 0, 0,
        9, True, CIN, CIN, CELL, DILATION, STRIDE, BM, BN, BK, PRECISION, UPCAST,
    )  # fmt: skip
    shift = tl.load(bias + group * CIN + n, mask=n < CIN, other=0.0).to(tl.float32)
    hidden = tl.maximum(values + shift[None, :], 0.0).to(rows.dtype.element_ty)
    if UPCAST:
        hidden = hidden.to(tl.float32)
    place = image.to(tl.int64) * stride_n + y * stride_y + x * stride_x + group * COUT
    for first in range(0, COUT, BC):
        c = first + tl.arange(0, BC)
        before = _load_map(target, place, inside, c, c < COUT)
        b = tl.load(
            weight_1x1 + (group * COUT + c)[None, :] * CIN + n[:, None],
            mask=(n < CIN)[:, None] & (c < COUT)[None, :],
            other=0.0,
        )
        if UPCAST:
            b = b.to(tl.float32)
        sums = tl.dot(hidden, b, input_precision=PRECISION)
        own_bias = bias_1x1 + group * COUT
        _store_sum(target, place, inside, c, c < COUT, sums, before, own_bias, RELU)
