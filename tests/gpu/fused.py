"""Convolutions with bias, sum and ReLU in one kernel: cuDNN's fused operators.

They make the strongest opponent of plain networks that PyTorch alone can run, since `torch.compile`
leaves the ReLU behind a convolution to a kernel of its own.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.layers.packed import PackedConv2d
from dynbackbones.layers.residual import ResidualBlock


@torch.library.custom_op("dynbackbones_bench::conv_relu", mutates_args=())
def conv_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    add: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """``relu(conv(x) + bias + add)`` in one kernel on a GPU."""
    geometry = stride, padding, dilation, groups
    if x.device.type != "cuda":
        return _unfused(x, weight, bias, add, *geometry)
    if add is None:
        return torch.cudnn_convolution_relu(x, weight, bias, *geometry)
    return torch.cudnn_convolution_add_relu(x, weight, add, 1.0, bias, *geometry)


@conv_relu.register_fake
def _unfused(x, weight, bias, add, stride, padding, dilation, groups):
    out = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    out = (out if add is None else out + add).relu()
    return out.contiguous(memory_format=torch.channels_last)


class FusedConv2d(PackedConv2d):
    """A convolution with a bias whose ReLU and sum are computed with it.

    The interface is that of `PackedConv2d`, which residual blocks know. Where cuDNN has no kernel
    for a shape it is the ordinary convolution from then on.

    Attributes:
        refused: why cuDNN refused, if it did.
    """

    refused: str | None = None
    ends_in_relu = False

    def forward(self, x: Tensor, add: Tensor | None = None, relu: bool = False) -> Tensor:
        relu = relu or self.ends_in_relu
        if relu and self.refused is None:
            geometry = list(self.stride), list(self.padding), list(self.dilation), self.groups
            if torch.compiler.is_compiling():
                return conv_relu(x, self.weight, self.bias, add, *geometry)
            try:
                return conv_relu(x, self.weight, self.bias, add, *geometry)
            except RuntimeError as error:
                self.refused = str(error).splitlines()[0]
        return super().forward(x, add, relu)

    def _weight_for(self, x: Tensor) -> None:
        return None


def fused(net: Backbone) -> Backbone:
    """A copy of a network with folded norm layers that computes dense blocks by `FusedConv2d`."""
    original, net = net, copy.deepcopy(net)
    if isinstance(net, DynamicBackbone):
        net.selection = original.selection  # regions are put in place in the same tensors
    sparse = net.sparse_convolutions()
    for block in net.modules():
        if not isinstance(block, ResidualBlock):
            continue
        layers = block.residual_layers()
        folded = all(
            isinstance(norm, nn.Identity) and conv.bias is not None for conv, norm in layers
        )
        if folded and not any(conv in sparse for conv, _ in layers):
            for index in range(1, block.depth + 1):
                name = f"conv{index}"
                setattr(block, name, FusedConv2d(getattr(block, name)))
            block.packed = True
    if isinstance(getattr(net, "bn1", None), nn.Identity):
        net.conv1 = FusedConv2d(net.conv1)
        net.conv1.ends_in_relu = True
        net.relu = nn.Identity()
    return net


def refusals(net: nn.Module) -> str:
    """How many convolutions cuDNN refused and why, or nothing."""
    convs = [module for module in net.modules() if isinstance(module, FusedConv2d)]
    refused = [conv.refused for conv in convs if conv.refused is not None]
    return f"{len(refused)} of {len(convs)} convolutions not fused: {refused[0]}" if refused else ""
