"""Residual blocks at selected cells alone, through the kernels; and when that is possible."""

import importlib.util
import logging
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor, nn

from dynbackbones.kernels import operators
from dynbackbones.kernels.cells import SelectedCells
from dynbackbones.layers.norm import fold_norm, has_affine_form
from dynbackbones.layers.residual import ResidualBlock
from dynbackbones.layers.tracing import constant_when_compiled, is_exported

FUSED_WIDTH = 128
"""Channels of a group up to which a bottleneck's last two convolutions are one program."""

MIN_CAPABILITY = (8, 0)
"""Of CUDA devices; older ones lack bfloat16 and asynchronous copies."""

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def can_run(blocks: Iterable[ResidualBlock], x: Tensor) -> bool:
    """Whether the kernels can compute these blocks, without gradients, for a feature map."""
    return (
        (x.device.type == "cuda" or operators.interpreted())
        and not torch.is_grad_enabled()
        and not is_exported()
        and x.dtype in DTYPES
        and _device_fits(x.device.type, x.device.index)
        and all(
            block.is_plain and all(has_affine_form(norm) for _, norm in block.residual_layers())
            for block in blocks
        )
    )


@constant_when_compiled
def _device_fits(kind: str, index: int | None) -> bool:
    return _missing(kind, index) is None


@cache
def _missing(kind: str, index: int | None) -> str | None:
    """What the kernels need and is not there, which is also logged, once."""
    missing = None
    if importlib.util.find_spec("triton") is None:
        missing = "Triton is not installed (pip install triton)"
    elif torch.version.hip is not None:
        missing = "the kernels were never tried with ROCm"
    elif kind == "cuda" and torch.cuda.get_device_capability(index) < MIN_CAPABILITY:
        major, minor = MIN_CAPABILITY
        missing = f"{torch.cuda.get_device_name(index)} is older than capability {major}.{minor}"
    if missing is not None:
        logging.getLogger("dynbackbones").warning(
            f"what is not selected is computed all the same on this device, since {missing}"
        )
    return missing


def add_residual_(
    out: Tensor,
    block: ResidualBlock,
    x: Tensor,
    cells: SelectedCells,
    source: SelectedCells | None = None,
) -> None:
    """Adds a block's residual branch to its shortcut where it is selected, and applies its ReLU.

    Args:
        out: (N, out_channels, H, W), channels-last: the shortcut; elsewhere it stays as it is.
        block: one that `can_run`.
        x: (N, in_channels, H * stride, W * stride); may be ``out`` itself.
        cells: selected cells of ``out``.
        source: those of ``x`` where the block has a stride; cells are then pixels.
    """
    rows = x.contiguous(memory_format=torch.channels_last)
    where, size = source or cells, list(x.shape[2:])
    layers = block.residual_layers()
    weights = [_folded(conv, norm, x.dtype) for conv, norm in layers]
    for index, (conv, _) in enumerate(layers):
        before, before_size, stride = where, size, conv.stride[0]
        if stride > 1:
            where, size = cells, list(out.shape[2:])
            if conv.kernel_size == (1, 1):
                # Nothing but these pixels is looked at.
                rows, stride = rows[:, :, ::stride, ::stride], 1
                before, before_size = where, size
        tables = before.slots, where.cells, where.counts, where.block, before.block
        how = before_size, cells.size, conv.dilation[0], stride
        if _fuses(layers[index:], block.groups):
            last = weights[index + 1]
            operators.finish_(out, rows, *weights[index], *last, *tables, *how, block.final_relu)
            return
        if index == len(layers) - 1:
            operators.add_(out, rows, *weights[index], *tables, *how, block.final_relu)
            return
        rows = operators.to_rows(rows, *weights[index], *tables, size, *how)


def _fuses(layers: list[tuple[nn.Conv2d, nn.Module]], groups: int) -> bool:
    """Whether these are a 3x3 and a 1x1 convolution that are one program."""
    kernels = [conv.kernel_size for conv, _ in layers]
    narrow = layers[0][0].out_channels // groups <= FUSED_WIDTH
    return kernels == [(3, 3), (1, 1)] and narrow


def _folded(conv: nn.Conv2d, norm: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight (C_out, taps, C_in / G) and bias of a convolution and the norm layer behind it."""
    weight, bias = fold_norm(conv, norm)
    # No copy if the weight is channels-last.
    return weight.to(dtype).permute(0, 2, 3, 1).flatten(1, 2).contiguous(), bias.contiguous()
