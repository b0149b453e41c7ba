"""Convolutions with bias, sum and ReLU in one kernel: cuDNN's and cuBLAS's fused operators.

They make the strongest opponent of plain networks that PyTorch alone can run, since `torch.compile`
leaves the ReLU behind a convolution to a kernel of its own.
"""

from __future__ import annotations

import copy
import statistics
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.analysis.latency import event_seconds
from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.layers.packed import PackedConv2d
from dynbackbones.layers.residual import ResidualBlock


def _plain(x, weight, bias, add, stride, padding, dilation, groups) -> Tensor:
    out = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return (out if add is None else out.add_(add)).relu_()


def _cudnn(x, weight, bias, add, stride, padding, dilation, groups) -> Tensor:
    geometry = stride, padding, dilation, groups
    if add is None:
        return torch.cudnn_convolution_relu(x, weight, bias, *geometry)
    return torch.cudnn_convolution_add_relu(x, weight, add, 1.0, bias, *geometry)


def _product(x, weight, bias, add, stride, padding, dilation, groups) -> Tensor:
    n, channels, height, width = x.shape
    fits = weight.shape[2:] == (1, 1) and set(stride) == {1} and groups == 1 and add is None
    if not fits:
        raise RuntimeError("only 1x1 convolutions of stride 1 without a sum are one product")
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    out = torch._addmm_activation(bias, rows, weight.flatten(1).t())
    return out.view(n, height, width, -1).permute(0, 3, 1, 2)


WAYS: dict[str, Callable[..., Tensor]] = {"cudnn": _cudnn, "product": _product, "plain": _plain}
"""How ``relu(conv(x) + bias + add)`` is computed: two that fuse all, and one that does not."""


Shape = tuple[torch.Size, torch.Size, tuple[int, ...], bool, torch.device]

CHOSEN: dict[Shape, str] = {}
"""The fastest of the `WAYS` for each shape that has been computed."""

USED: Counter[str] = Counter()
"""How often each way has been called."""


@torch.library.custom_op(
    "dynbackbones_bench::conv_relu",
    mutates_args=(),
    # torch 2.6 cannot read these types in the signature.
    schema="(Tensor x, Tensor weight, Tensor bias, Tensor? add, SymInt[] stride, SymInt[] padding, "
    "SymInt[] dilation, SymInt groups) -> Tensor",
)
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
    """``relu(conv(x) + bias + add)``, one operator for the compiler.

    The first call with a shape takes the fastest of the `WAYS`, at best before a graph is captured.
    """
    arguments = x, weight, bias, add, stride, padding, dilation, groups
    shape = x.shape, weight.shape, tuple(stride), add is not None, x.device
    if shape not in CHOSEN:
        CHOSEN[shape] = fastest(lambda way: WAYS[way](*arguments), x.device)
    USED[CHOSEN[shape]] += 1
    return WAYS[CHOSEN[shape]](*arguments)


@conv_relu.register_fake
def _(x, weight, bias, add, stride, padding, dilation, groups):
    out = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return torch.empty_like(out, memory_format=torch.channels_last)


class FusedConv2d(PackedConv2d):
    """A convolution with a bias whose ReLU and sum are computed with it.

    The interface is that of `PackedConv2d`, which residual blocks know.

    Attributes:
        ends_in_relu: whether there is always a ReLU.
    """

    ends_in_relu = False

    def forward(
        self,
        x: Tensor,
        add: Tensor | None = None,
        relu: bool = False,
        ceiling: float | None = None,
    ) -> Tensor:
        if ceiling is not None or not (relu or self.ends_in_relu):
            return super().forward(x, add, relu, ceiling)
        geometry = list(self.stride), list(self.padding), list(self.dilation), self.groups
        return conv_relu(x, self.weight, self.bias, add, *geometry)

    def _weight_for(self, x: Tensor) -> None:
        return None


def fastest(run: Callable[[str], object], device: torch.device) -> str:
    """Which of the `WAYS` takes the least time on a device; on a CPU the last."""
    seconds = {"plain": float("inf")}
    for way in WAYS if device.type == "cuda" else ():
        try:
            times = [event_seconds(partial(run, way)) for _ in range(9)]
        except RuntimeError:
            continue  # it does not know this shape
        seconds[way] = statistics.median(times[4:])
    return min(seconds, key=seconds.get)


def fused(net: Backbone, images: Tensor) -> tuple[Backbone, str]:
    """A copy of a network with folded norm layers that computes dense blocks by `FusedConv2d`.

    Args:
        net: in evaluation mode.
        images: for which it is to be fast.

    Returns:
        The copy, and how many of its convolutions are computed in which way.
    """
    original, net = net, copy.deepcopy(net)
    if isinstance(net, DynamicBackbone):
        net.selection = original.selection  # regions are put in place in the same tensors
    sparse = net.sparse_convolutions()
    for block in net.modules():
        if not isinstance(block, ResidualBlock):
            continue
        layers = block.residual_layers()
        folded = all(isinstance(norm, nn.Identity) for _, norm in layers)
        if folded and not any(conv in sparse for conv, _ in layers):
            _fuse(block)
    if isinstance(getattr(net, "bn1", None), nn.Identity):
        net.conv1 = FusedConv2d(net.conv1)
        net.conv1.ends_in_relu = True
        net.relu = nn.Identity()
    before = USED.copy()
    net(images)
    ways = ", ".join(f"{count} {way}" for way, count in (USED - before).most_common())
    return net, ways


def _fuse(block: ResidualBlock) -> None:
    for index in range(1, block.depth + 1):
        name = f"conv{index}"
        setattr(block, name, FusedConv2d(getattr(block, name)))
    block.packed = True
    # The shortcut's bias goes into that of the last convolution: it would take a pass of its own.
    last = block.residual_layers()[-1][0]
    for layer in block.downsample or ():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            last.bias = nn.Parameter(last.bias + layer.bias, requires_grad=False)
            layer.bias = None
