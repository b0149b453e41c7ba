"""The Triton programs behind `dynbackbones.kernels.operators`.

The selected pixels of a channel group are rows: row r is pixel r % c^2 of the group's selected cell
r // c^2. A program computes some rows. There is room for as many rows as the map has pixels, and a
program whose rows lie behind the last one returns at once, so that nobody needs to know how many
there are before the launch.

In all of them CIN, WIDTH and COUT are channels of one group, and BM, BN and BK are the rows, output
channels and input channels of a tile.
"""

import triton
import triton.language as tl


@triton.jit
def _pixels(index, cells, count, grid_rows, grid_columns, height, width, CELL: tl.constexpr):
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
def _product(
    source,
    weight,
    slots,
    index,
    image,
    y,
    x,
    inside,
    n,
    grid_rows,
    grid_columns,
    height,
    width,
    stride_n,
    stride_y,
    stride_x,
    TAPS: tl.constexpr,
    FROM_ROWS: tl.constexpr,
    CIN: tl.constexpr,
    WIDTH: tl.constexpr,
    CELL: tl.constexpr,
    DILATION: tl.constexpr,
    STRIDE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
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
    target,
    source,
    weight,
    bias,
    slots,
    cells,
    counts,
    grid_rows,
    grid_columns,
    height,
    width,
    total,
    stride_n,
    stride_y,
    stride_x,
    source_grid_rows,
    source_grid_columns,
    source_height,
    source_width,
    source_total,
    source_n,
    source_y,
    source_x,
    TAPS: tl.constexpr,
    FROM_ROWS: tl.constexpr,
    TO_MAP: tl.constexpr,
    RELU: tl.constexpr,
    CIN: tl.constexpr,
    WIDTH: tl.constexpr,
    CELL: tl.constexpr,
    DILATION: tl.constexpr,
    STRIDE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
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
    image, y, x, inside = _pixels(
        index, cells + group * total, count, grid_rows, grid_columns, height, width, CELL
    )
    if FROM_ROWS:
        own = source + group.to(tl.int64) * source_total * area * CIN
    else:
        own = source + group * CIN
    place = image.to(tl.int64) * stride_n + y * stride_y + x * stride_x + group * WIDTH
    if TO_MAP:  # early, so that it is there when it is needed
        before = _load_map(target, place, inside, n, n < WIDTH)
    values = _product(
        own,
        weight + group * WIDTH * TAPS * CIN,
        slots + group * source_total,
        index,
        image,
        y,
        x,
        inside,
        n,
        source_grid_rows,
        source_grid_columns,
        source_height,
        source_width,
        source_n,
        source_y,
        source_x,
        TAPS,
        FROM_ROWS,
        CIN,
        WIDTH,
        CELL,
        DILATION,
        STRIDE,
        BM,
        BN,
        BK,
        PRECISION,
        UPCAST,
    )
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
    target,
    rows,
    weight,
    bias,
    weight_1x1,
    bias_1x1,
    slots,
    cells,
    counts,
    grid_rows,
    grid_columns,
    height,
    width,
    total,
    stride_n,
    stride_y,
    stride_x,
    source_grid_rows,
    source_grid_columns,
    source_height,
    source_width,
    source_total,
    CIN: tl.constexpr,
    COUT: tl.constexpr,
    RELU: tl.constexpr,
    CELL: tl.constexpr,
    DILATION: tl.constexpr,
    STRIDE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    BC: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
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
    image, y, x, inside = _pixels(
        index, cells + group * total, count, grid_rows, grid_columns, height, width, CELL
    )
    values = _product(
        rows + group.to(tl.int64) * source_total * area * CIN,
        weight + group * CIN * 9 * CIN,
        slots + group * source_total,
        index,
        image,
        y,
        x,
        inside,
        n,
        source_grid_rows,
        source_grid_columns,
        source_height,
        source_width,
        0,
        0,
        0,
        9,
        True,
        CIN,
        CIN,
        CELL,
        DILATION,
        STRIDE,
        BM,
        BN,
        BK,
        PRECISION,
        UPCAST,
    )
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


@triton.jit
def blend(
    target,
    base,
    base_weight,
    weight,
    pixels,
    channels,
    height,
    width,
    stride_n,
    stride_y,
    stride_x,
    base_n,
    base_y,
    base_x,
    SCALE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Both maps, each with a weight for each image and channel, summed, ReLU, in place."""
    index = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BN + tl.arange(0, BN)
    image = index // (height * width)
    y = index % (height * width) // width
    x = index % width
    mask = (index < pixels)[:, None] & (c < channels)[None, :]
    wide = image.to(tl.int64)
    own = target + (wide * stride_n + y * stride_y + x * stride_x)[:, None] + c[None, :]
    low = wide * base_n + y // SCALE * base_y + x // SCALE * base_x
    share = (image * channels)[:, None] + c[None, :]
    values = tl.load(base + low[:, None] + c[None, :], mask=mask, other=0.0).to(tl.float32)
    values *= tl.load(base_weight + share, mask=mask, other=0.0).to(tl.float32)
    factor = tl.load(weight + share, mask=mask, other=0.0).to(tl.float32)
    values += factor * tl.load(own, mask=mask, other=0.0).to(tl.float32)
    tl.store(own, tl.maximum(values, 0.0).to(target.dtype.element_ty), mask=mask)
