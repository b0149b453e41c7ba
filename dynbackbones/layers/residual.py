"""Residual blocks with torchvision's parameter names, residual branch and shortcut apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynbackbones.layers.checkpointing import run_checkpointed
from dynbackbones.layers.convolutions import chain_macs, conv1x1, conv3x3
from dynbackbones.layers.convolutions import conv_out_size as conv_out_size
from dynbackbones.layers.norm import NormLayer
from dynbackbones.layers.pooling import PaddedAvgPool2d

if TYPE_CHECKING:  # it imports this module
    from dynbackbones.layers.native_rows import NativeRows


def mask_groups(x: Tensor, mask: Tensor) -> Tensor:
    """Multiplies each of G channel groups by a mask of its own.

    Args:
        x: (N, C, H, W).
        mask: (N, G, H, W); G divides C.

    Returns:
        (N, C, H, W).
    """
    n, channels, height, width = x.shape
    groups = mask.shape[1]
    grouped = x.reshape(n, groups, channels // groups, height, width)
    return (grouped * mask.unsqueeze(2).to(x.dtype)).reshape(x.shape)


class ResidualBlock(nn.Module, ABC):
    """``relu(residual(x) + shortcut(x))``, the base of `BasicBlock` and `Bottleneck`.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first 3x3 convolution (of the first 1x1 with ``stride_in_1x1``).
        dilation: of the 3x3 convolutions.
        first_dilation: of the first 3x3 convolution where it differs.
        groups: of the residual branch, each with a mask of its own; the shortcut is never grouped.
        cardinality: groups of the 3x3 convolutions (ResNeXt's C), whole ones in each of
            ``groups``; 1 for as many as ``groups``.
        expansion: channels of the output per channel between the convolutions; None for the
            class's, 4 of a `Bottleneck` and 1 of a `BasicBlock`.
        norm: constructor of the norm layers.
        pooled_shortcut: start the shortcut with 3x3 average pooling and leave the 1x1
            convolution at stride 1 (design of SAR's strided blocks).
        final_relu: apply a ReLU to the sum.
        stride_in_1x1: put a `Bottleneck`'s stride into its first 1x1 convolution, as weights
            converted from Caffe expect.

    Attributes:
        stride, dilation, groups, cardinality, expansion: as given.
        activation: the class of the activation, of this kind of block.
        linear: whether none follows the sum, in this kind of block.
        activation_checkpointing: compute the block's activations a second time in the backward
            pass instead of keeping them; see `set_activation_checkpointing`.
        packed: the convolutions are `PackedConv2d` without norm layers behind them; see
            `dynbackbones.optimize_for_inference`.
        native_rows: computes selected pixels in C++, a `NativeRows`; see there too.

    Shape:
        (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Raises:
        ValueError: ``groups`` does not divide the channels or the cardinality, or that not the
            channels between the convolutions.
    """

    expansion: float = 1
    activation: type[nn.Module] = nn.ReLU
    linear = False
    activation_checkpointing = False
    packed = False
    native_rows: NativeRows | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        groups: int = 1,
        cardinality: int = 1,
        expansion: float | None = None,
        norm: NormLayer = nn.BatchNorm2d,
        pooled_shortcut: bool = False,
        final_relu: bool = True,
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__()
        self.expansion = type(self).expansion if expansion is None else expansion
        self.in_channels = in_channels
        self.out_channels = out_channels
        width = self._inner_channels()
        self._check_groups(in_channels, width, groups, cardinality)
        self.stride = stride
        self.groups = groups
        self.cardinality = cardinality
        self.dilation = dilation
        self.final_relu = final_relu and not self.linear
        convs = self._convs(width, stride, first_dilation or dilation, dilation, stride_in_1x1)
        self.depth = len(convs)
        self._add_layers(convs, norm)
        self.relu = self.activation(inplace=True)
        self.downsample = self._shortcut(stride, norm, pooled_shortcut)

    def _inner_channels(self) -> int:
        return round(self.out_channels / self.expansion)

    def _add_layers(self, convs: list[nn.Conv2d], norm: NormLayer) -> None:
        for index, conv in enumerate(convs, start=1):
            self.add_module(f"conv{index}", conv)
            self.add_module(f"bn{index}", norm(conv.out_channels))

    def _check_groups(self, in_channels: int, width: int, groups: int, cardinality: int) -> None:
        of_block = f"of a {type(self).__name__}"
        for name, channels in (("input", in_channels), ("inner", width)):
            if channels % groups:
                raise ValueError(
                    f"groups={groups} does not divide the {channels} {name} channels {of_block}"
                )
        if cardinality == 1:
            return
        if cardinality % groups:
            raise ValueError(
                f"groups={groups} does not divide the cardinality={cardinality} {of_block}"
            )
        if width % cardinality:
            raise ValueError(
                f"cardinality={cardinality} does not divide the {width} inner channels {of_block}"
            )

    @abstractmethod
    def _convs(
        self, width: int, stride: int, first_dilation: int, dilation: int, stride_in_1x1: bool
    ) -> list[nn.Conv2d]:
        """The convolutions of the residual branch, in order."""

    def _conv3x3(
        self, in_channels: int, out_channels: int, stride: int, dilation: int
    ) -> nn.Conv2d:
        groups = self.groups if self.cardinality == 1 else self.cardinality
        return conv3x3(in_channels, out_channels, stride, dilation, groups)

    @property
    def is_plain(self) -> bool:
        """Whether it is what special kernels know: with ReLUs, and a channel group a mask."""
        same = all(conv.groups == self.groups for conv, _ in self.residual_layers())
        return same and type(self.relu) is nn.ReLU

    def _shortcut(self, stride: int, norm: NormLayer, pooled: bool) -> nn.Sequential | None:
        project = self.in_channels != self.out_channels or (stride != 1 and not pooled)
        layers: list[nn.Module] = []
        if pooled:
            # It has no parameters and stays at stride 1 too (in dilated networks), so that one
            # checkpoint fits every output stride.
            layers.append(PaddedAvgPool2d(3, stride, padding=1))
        if project:
            conv_stride = 1 if pooled else stride
            layers.append(conv1x1(self.in_channels, self.out_channels, conv_stride))
            layers.append(norm(self.out_channels))
        return nn.Sequential(*layers) if layers else None

    def residual_layers(self) -> list[tuple[nn.Conv2d, nn.Module]]:
        """The (convolution, norm) pairs of the residual branch; a ReLU stands between pairs."""
        return [
            (getattr(self, f"conv{i}"), getattr(self, f"bn{i}")) for i in range(1, self.depth + 1)
        ]

    def residual(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The residual branch.

        Args:
            x: (N, in_channels, H, W).
            mask: (N, groups, H, W); multiplies the input of every convolution and the branch's
                output (only where the stride is 1).
        """
        if self.packed and mask is None:
            return self._packed_residual(x)
        for index, (conv, bn) in enumerate(self.residual_layers()):
            if index:
                x = self.relu(x)
            if mask is not None:
                x = mask_groups(x, mask)
            x = bn(conv(x))
        return x if mask is None else mask_groups(x, mask)

    def _packed_residual(self, x: Tensor, add: Tensor | None = None, relu: bool = False) -> Tensor:
        *first, (last, _) = self.residual_layers()
        ceiling = 6.0 if isinstance(self.relu, nn.ReLU6) else None
        for conv, _ in first:
            x = conv(x, relu=True, ceiling=ceiling)
        return last(x, add, relu)

    def shortcut(self, x: Tensor) -> Tensor:
        """The path around the residual branch: the identity, or pooling and projection."""
        return x if self.downsample is None else self.downsample(x)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.activation_checkpointing and self.training and torch.is_grad_enabled():
            return run_checkpointed(self, self._forward, x, mask)
        return self._forward(x, mask)

    def _forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return self.add_residual(x, self.shortcut(x))
        out = self.residual(x, mask) + self.shortcut(x)
        return self.relu(out) if self.final_relu else out

    def add_residual(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """What the block makes of its input, given the output of its shortcut for it."""
        if self.packed:
            return self._packed_residual(x, shortcut, self.final_relu)
        out = self.residual(x) + shortcut
        return self.relu(out) if self.final_relu else out

    def residual_macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of the residual branch for an input of this size in pixels."""
        return chain_macs([conv for conv, _ in self.residual_layers()], height, width)

    def shortcut_macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of the shortcut for an input of this size in pixels."""
        return 0 if self.downsample is None else chain_macs(self.downsample, height, width)

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of the block for an input of this size in pixels."""
        return self.residual_macs(height, width) + self.shortcut_macs(height, width)

    def macs_per_refined_pixel(self) -> int:
        """Multiply-accumulates of the residual branch for one pixel of one channel group."""
        return sum(conv.weight.numel() for conv, _ in self.residual_layers()) // self.groups

    def zero_init_residual(self) -> None:
        """Starts the last norm layer at gamma 0, so that the block starts as its shortcut."""
        _, last_norm = self.residual_layers()[-1]
        torch.nn.init.zeros_(last_norm.weight)


BlockMaker = Callable[..., ResidualBlock]
"""A class of blocks, or a `functools.partial` of one: (in_channels, out_channels, ...)."""


def set_activation_checkpointing(module: nn.Module) -> None:
    """Lets every residual block inside a module trade training time for memory."""
    for child in module.modules():
        if isinstance(child, ResidualBlock):
            child.activation_checkpointing = True


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (He et al., 2016); see `ResidualBlock`."""

    def _convs(self, width, stride, first_dilation, dilation, stride_in_1x1):
        return [
            self._conv3x3(self.in_channels, width, stride, first_dilation),
            self._conv3x3(width, self.out_channels, 1, dilation),
        ]


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions with a quarter of the width (He et al., 2016).

    With a ``cardinality``, and an ``expansion`` of 2 mostly, it is ResNeXt's (Xie et al., 2017).
    """

    expansion = 4

    def _convs(self, width, stride, first_dilation, dilation, stride_in_1x1):
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        return [
            conv1x1(self.in_channels, width, stride_1x1, self.groups),
            self._conv3x3(width, width, stride_3x3, first_dilation),
            conv1x1(width, self.out_channels, 1, self.groups),
        ]
