"""The kernels as PyTorch operators, which compilers and CUDA graphs take as they are.

On CUDA they start Triton programs; on a CPU they are the reference, or the programs where Triton's
interpreter is on (``TRITON_INTERPRET=1`` before Triton is imported). They have no gradients.

Shapes: N images, G channel groups, H x W pixels, cells of c x c. Rows are (G, M * c^2, C / G) for M
cells of the map: row r of a group is pixel r % c^2 of its selected cell r // c^2; those behind the
last one mean nothing. The other arguments make a `Geometry`: tables of all blocks of a stage, which
block of them is meant, and of which block the source is.
"""

import os
from types import ModuleType

# torch 2.6 reads the signatures of operators, and knows only this one.
from typing import Sequence  # noqa: UP035

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from dynbackbones.kernels import reference
from dynbackbones.kernels.geometry import Geometry


def interpreted() -> bool:
    """Whether Triton's interpreter computes what tensors on a CPU ask for."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _implementation(x: Tensor) -> ModuleType:
    """Where the computation is written: the Triton programs, or the reference."""
    if x.device.type == "cuda" or interpreted():
        from dynbackbones.kernels import launch

        return launch
    return reference


@torch.library.custom_op("dynbackbones::to_rows", mutates_args=())
def to_rows(
    source: Tensor,
    weight: Tensor,
    bias: Tensor,
    slots: Tensor,
    cells: Tensor,
    counts: Tensor,
    block: int,
    source_block: int,
    size: Sequence[int],
    source_size: Sequence[int],
    cell_size: int,
    dilation: int,
    stride: int,
) -> Tensor:
    """A convolution at the selected pixels, with bias and ReLU.

    A 3x3 convolution sees zeros at pixels that are not selected.

    Args:
        source: (N, C, H, W), channels-last, or rows.
        weight: (width, 1 or 9, C / G), with the taps of a kernel in order.
        bias: (width,).
        slots, cells, counts: see `SelectedCells`.
        block, source_block: whose of the cells, and of the slots.
        size, source_size, cell_size, dilation, stride: see `Geometry`.

    Returns:
        Rows of width / G channels.
    """
    tables = slots[source_block], cells[block], counts[block]
    where = Geometry(*tables, tuple(size), tuple(source_size), cell_size, dilation, stride)
    return _implementation(source).to_rows(source, weight, bias, where)


@to_rows.register_fake
def _(source, weight, bias, slots, cells, counts, block, source_block, size, source_size, *how):
    _, groups, total = cells.shape
    return source.new_empty(groups, total * how[0] ** 2, weight.shape[0] // groups)


@torch.library.custom_op("dynbackbones::add_", mutates_args=("out",))
def add_(
    out: Tensor,
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    slots: Tensor,
    cells: Tensor,
    counts: Tensor,
    block: int,
    source_block: int,
    source_size: Sequence[int],
    cell_size: int,
    dilation: int,
    stride: int,
    relu: bool,
) -> None:
    """A convolution of rows and its bias, added to a map at the selected pixels.

    Args:
        out: (N, C, H, W), channels-last; overwritten.
        rows: what to convolve.
        weight: (C, 1 or 9, width / G), with the taps of a kernel in order.
        bias: (C,).
        slots, cells, counts, block, source_block, source_size, cell_size, dilation, stride, relu:
            see `to_rows` and `Geometry`.
    """
    tables = slots[source_block], cells[block], counts[block]
    sizes = tuple(out.shape[2:]), tuple(source_size)
    where = Geometry(*tables, *sizes, cell_size, dilation, stride, relu)
    _implementation(out).add_(out, rows, weight, bias, where)


@torch.library.custom_op("dynbackbones::finish_", mutates_args=("out",))
def finish_(
    out: Tensor,
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight_1x1: Tensor,
    bias_1x1: Tensor,
    slots: Tensor,
    cells: Tensor,
    counts: Tensor,
    block: int,
    source_block: int,
    source_size: Sequence[int],
    cell_size: int,
    dilation: int,
    stride: int,
    relu: bool,
) -> None:
    """A 3x3 convolution of rows, ReLU, and a 1x1 one, added to a map at the selected pixels.

    Args:
        out: (N, C, H, W), channels-last; overwritten.
        rows: what to convolve.
        weight: (width, 9, width / G).
        bias: (width,).
        weight_1x1: (C, 1, width / G).
        bias_1x1: (C,).
        slots, cells, counts, block, source_block, source_size, cell_size, dilation, stride, relu:
            see `to_rows` and `Geometry`.
    """
    tables = slots[source_block], cells[block], counts[block]
    sizes = tuple(out.shape[2:]), tuple(source_size)
    where = Geometry(*tables, *sizes, cell_size, dilation, stride, relu)
    _implementation(out).finish_(out, rows, weight, bias, weight_1x1, bias_1x1, where)


@torch.library.custom_op("dynbackbones::blend_", mutates_args=("out",))
def blend_(out: Tensor, base: Tensor, base_weight: Tensor, weight: Tensor, scale: int) -> None:
    """``out = relu(base_weight * upsampled base + weight * out)``.

    Args:
        out: (N, C, H, W), channels-last; overwritten.
        base: (N, C, ceil(H / scale), ceil(W / scale)), channels-last.
        base_weight, weight: (N, C).
        scale: pixels of ``out`` per pixel of ``base``, on each axis.
    """
    _implementation(out).blend_(out, base, base_weight, weight, scale)


@add_.register_fake
@finish_.register_fake
@blend_.register_fake
def _(*arguments):
    return None


def _flops(counts: Tensor, block: int, cell_size: int, *weights: Tensor) -> int:
    """A multiplication and an addition for each weight of a group at each of its pixels."""
    pixels = int(counts[block].sum()) * cell_size**2
    return 2 * pixels * sum(weight.numel() for weight in weights) // counts.shape[1]


@register_flop_formula(torch.ops.dynbackbones.to_rows, get_raw=True)
def _(source, weight, bias, slots, cells, counts, block, source_block, size, *how, **_):
    return _flops(counts, block, how[1], weight)


@register_flop_formula(torch.ops.dynbackbones.add_, get_raw=True)
def _(out, rows, weight, bias, slots, cells, counts, block, source_block, size, *how, **_):
    return _flops(counts, block, how[0], weight)


@register_flop_formula(torch.ops.dynbackbones.finish_, get_raw=True)
def _(out, rows, weight, bias, weight_1x1, bias_1x1, slots, cells, counts, block, *how, **_):
    return _flops(counts, block, how[2], weight, weight_1x1)
