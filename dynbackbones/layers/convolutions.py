"""Convolutions of residual networks: how they pad, what size they leave, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn


def conv3x3(
    in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        3,
        stride=stride,
        padding=dilation,
        dilation=dilation,
        groups=groups,
        bias=False,
    )


def conv1x1(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, groups=groups, bias=False)


def conv_out_size(size: int, stride: int) -> int:
    """Length of an axis behind a layer with this stride; every layer here rounds up."""
    return -(-size // stride)


def chain_macs(layers, height: int, width: int) -> int:
    """Multiply-accumulates of layers applied one after another; only convolutions count.

    Args:
        layers: modules, also those that count their own (residual blocks) and sequences of all
            these; those with a ``stride`` shrink the feature map.
        height, width: size of the input in pixels.
    """
    total = 0
    for layer in _in_a_row(layers):
        own = getattr(layer, "macs", None)
        total += own(height, width) if own else 0
        stride = getattr(layer, "stride", 1)
        stride = stride[0] if isinstance(stride, tuple) else stride
        height, width = conv_out_size(height, stride), conv_out_size(width, stride)
        if isinstance(layer, nn.Conv2d):
            total += layer.weight.numel() * height * width
    return total


def _in_a_row(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _in_a_row(layer)
        else:
            yield layer
