"""The Triton program that blends the maps of both branches, whose every pixel it computes."""

import triton
import triton.language as tl


@triton.jit
def blend(
    target, base, base_weight, weight, pixels, channels, height, width,
    stride_n, stride_y, stride_x, base_n, base_y, base_x,
    SCALE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
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
