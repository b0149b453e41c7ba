"""How many products and bytes each kernel of a network must do and move: a model, no measurement.

Bytes are those of device memory: each input read once (the nine taps of a 3x3 convolution come from
the cache), each output written once; bias, ReLU and the sum with the shortcut cost no pass of their
own. So are all convolutions of plain networks counted, which makes them as fast as they can be.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.resnet import feature_size
from dynbackbones.backbones.sar.network import SARBackbone
from dynbackbones.backbones.sar.stage import SARStage
from dynbackbones.layers.residual import ResidualBlock

INDEX = 4
"""Bytes of an entry of a table of cells or slots."""


@dataclass(frozen=True)
class Card:
    """What a GPU can do at most.

    Attributes:
        bandwidth: bytes a second, to and from its memory.
        peak: operations a second, two for a multiply-accumulate.
    """

    bandwidth: float
    peak: float


H100 = Card(3.35e12, 990e12)


@dataclass(frozen=True)
class Work:
    """Of one kernel, for a whole batch.

    Attributes:
        macs: multiply-accumulates.
        bytes: read and written.
    """

    macs: float
    bytes: float

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.bytes + other.bytes)

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return 2 * self.macs / self.bytes

    def seconds(self, card: Card) -> float:
        """The least that the kernel takes."""
        return max(self.bytes / card.bandwidth, 2 * self.macs / card.peak)

    def bound(self, card: Card) -> str:
        """What keeps it from being faster."""
        return "bytes" if self.bytes / card.bandwidth >= 2 * self.macs / card.peak else "MACs"


@dataclass(frozen=True)
class Input:
    """What a network is given.

    Attributes:
        size: (height, width) of the images.
        batch: N.
        value: bytes of a value.
        rate: share of regions that are refined.
        fused: whether dense convolutions end with bias, sum and ReLU; `torch.compile` gives these
            a pass of their own.
    """

    size: tuple[int, int]
    batch: int
    value: int = 2
    rate: float = 0.5
    fused: bool = True


def gather_kernel(block: ResidualBlock, pixels: float, cell: int, given: Input) -> Work:
    """K1: from the map at the refined pixels to compact rows, up to the last 3x3 convolution.

    Args:
        block: of a refinement branch.
        pixels: refined of all images, in each group.
        cell: edge of a cell in pixels.
        given: see `Input`.
    """
    first, _ = _halves(block)
    width = first[-1].out_channels
    weights = sum(conv.weight.numel() for conv in first)
    cells = block.groups * pixels / cell**2
    values = pixels * (block.in_channels + width) + weights
    return Work(weights * pixels, given.value * values + INDEX * cells)


def scatter_kernel(
    block: ResidualBlock, pixels: float, cell: int, given: Input, slots: int
) -> Work:
    """K2: from the rows through the slot table to the map, added to the shortcut in place.

    Args:
        block, pixels, cell, given: as for `gather_kernel`.
        slots: entries of the slot table of all images and groups.
    """
    first, last = _halves(block)
    rows = first[-1].out_channels
    weights = sum(conv.weight.numel() for conv in last)
    cells = block.groups * pixels / cell**2
    values = pixels * (rows + 2 * block.out_channels) + weights
    return Work(weights * pixels, given.value * values + INDEX * (cells + slots))


def _halves(block: ResidualBlock) -> tuple[list[nn.Conv2d], list[nn.Conv2d]]:
    convs = [conv for conv, _ in block.residual_layers()]
    cut = max(index for index, conv in enumerate(convs) if conv.kernel_size == (3, 3))
    return convs[:cut], convs[cut:]


def shortcut_kernel(block: ResidualBlock, pixels: int, given: Input) -> Work:
    """The projection that a block's shortcut computes everywhere, of all images' ``pixels``."""
    weights = block.in_channels * block.out_channels
    values = pixels * (block.in_channels + block.out_channels) + weights
    return Work(weights * pixels, given.value * values)


def relu_kernel(block: ResidualBlock, pixels: int, given: Input) -> Work:
    """The ReLU of a projection where nothing is added to it."""
    return Work(0, given.value * 2 * pixels * block.out_channels)


def dense_block(block: ResidualBlock, pixels: int, given: Input) -> Work:
    """The same block of a plain network, not grouped, at all images' ``pixels``."""
    macs = values = 0.0
    convs = [conv for conv, _ in block.residual_layers()]
    for conv in convs:
        weights = conv.in_channels * conv.out_channels * prod(conv.kernel_size)
        macs += weights * pixels
        values += (conv.in_channels + conv.out_channels) * pixels + weights
    values += block.out_channels * pixels  # the shortcut
    work = Work(macs, given.value * values)
    if block.downsample is not None:
        work += shortcut_kernel(block, pixels, given)
    return work


def fusion_kernel(channels: int, scale: int, pixels: int, given: Input) -> Work:
    """Upsampling of the base branch, weighted sum with the refinement branch and ReLU."""
    values = pixels * channels * (2 + 1 / scale**2)
    return Work(2 * pixels * channels, given.value * values)


@dataclass(frozen=True)
class StageWork:
    """The refinement branch of one SAR stage.

    Attributes:
        blocks: for each block its kernels by name.
        dense: the same blocks of a plain network.
        fusion: of both branches.
    """

    blocks: list[dict[str, Work]]
    dense: list[Work]
    fusion: Work


def refinement_work(net: SARBackbone, given: Input) -> dict[str, StageWork]:
    """The kernels of each SAR stage's refinement branch, by the name of the feature."""
    result = {}
    for name, stage in net.stages().items():
        stride = net.feature_info[name].stride
        height, width = feature_size(given.size, stride)
        pixels = given.batch * height * width
        result[name] = _stage_work(stage, (height, width), pixels, given)
    return result


def _stage_work(stage: SARStage, size: tuple[int, int], pixels: int, given: Input) -> StageWork:
    cell, refined = stage.cell_size, pixels * given.rate
    slots = given.batch * stage.groups * stage.grid(size).valid[0].numel()
    blocks, dense = [], []
    for block in stage.refined_blocks():
        kernels = {
            "K1": gather_kernel(block, refined, cell, given),
            "K2": scatter_kernel(block, refined, cell, given, slots),
        }
        if block.downsample is not None:
            before = {"shortcut": shortcut_kernel(block, pixels, given)}
            if block.final_relu:
                before["ReLU"] = relu_kernel(block, pixels, given)
            kernels = before | kernels
        blocks.append(kernels)
        dense.append(dense_block(block, pixels, given))
    channels = stage.refined_blocks()[-1].out_channels
    return StageWork(blocks, dense, fusion_kernel(channels, stage.base_scale, pixels, given))


def dense_work(net: Backbone, given: Input) -> list[tuple[str, Work]]:
    """All convolutions and poolings of a network that run everywhere, in order, by module name."""
    net = copy.deepcopy(net).to("meta").eval()
    names = {module: name for name, module in net.named_modules()}
    sparse, works = net.sparse_convolutions(), []
    ends = {
        block.residual_layers()[-1][0]
        for block in net.modules()
        if isinstance(block, ResidualBlock)
    }

    def count(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if module in sparse:
            return
        weights = module.weight.numel() if isinstance(module, nn.Conv2d) else 0
        values = inputs[0].numel() + output.numel() + weights
        values += output.numel() if module in ends else 0  # the shortcut
        values += 2 * output.numel() if weights and not given.fused else 0
        work = Work(weights * output[:, 0].numel(), given.value * values)
        works.append((names[module], work))

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            module.register_forward_hook(count)
    if isinstance(net, SARBackbone):
        net.execution = "masked"
    with torch.no_grad():
        net(torch.empty(given.batch, net.in_channels, *given.size, device="meta"))
    return works


def parts_seconds(net: Backbone, given: Input, card: Card) -> dict[str, float]:
    """The least time of a network's parts, the sums of their kernels' least times.

    The parts of a SAR stage are those of all stages together.
    """
    parts: dict[str, float] = {}

    def add(part: str, work: Work) -> None:
        parts[part] = parts.get(part, 0.0) + work.seconds(card)

    for name, work in dense_work(net, given):
        first, *rest = name.split(".")
        inside = isinstance(net, SARBackbone) and first in ("layer1", "layer2", "layer3")
        add(rest[0] if inside else first if first.startswith("layer") else "stem", work)
    if isinstance(net, SARBackbone):
        for stage in refinement_work(net, given).values():
            add("fusion", stage.fusion)
            for kernels in stage.blocks:
                for name, work in kernels.items():
                    if name != "shortcut":
                        add(name, work)
    return parts
