"""The networks that are timed, their inputs, and regions and blocks drawn beforehand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

import dynbackbones
from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.layers.residual import ResidualBlock

GAMMA = 0.25
"""Scale of the last norm layer of each block.

Networks with 0 there, as some start, would be timed on zeros, and 33 blocks with 1 leave float16.
"""

DRAWS = 2
"""Random choices, and batches of images, that a measurement goes through."""


@dataclass(frozen=True)
class Place:
    """Where networks run.

    Attributes:
        device: of networks and images.
        dtype: likewise.
    """

    device: torch.device
    dtype: torch.dtype

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


@dataclass
class Inputs:
    """Batches that take turns in one static tensor, which is what networks read.

    Attributes:
        images: (N, 3, H, W), channels-last.
    """

    images: Tensor
    batches: list[Tensor]
    _turn: Iterator[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._turn = itertools.cycle(self.batches)

    @classmethod
    def random(cls, batch: int, size: tuple[int, int], place: Place) -> Inputs:
        """Normally distributed ones, drawn on the CPU.

        The generator of a GPU draws no more once the capture of a graph has failed.
        """
        batches = [
            torch.randn(batch, 3, *size)
            .to(place.device, place.dtype)
            .contiguous(memory_format=torch.channels_last)
            for _ in range(DRAWS)
        ]
        return cls(batches[0].clone(memory_format=torch.preserve_format), batches)

    def next(self) -> None:
        """Brings the next batch into place."""
        self.images.copy_(next(self._turn))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Around a forward pass: another batch than the last one's."""
        self.next()
        yield


def build(name: str, place: Place, *, fold: bool = True, **options) -> Backbone:
    """A network of random weights, for inference: channels-last, batch norms folded.

    Args:
        name: for `dynbackbones.build_backbone`.
        place: where it runs.
        fold: fold batch norms.
        options: of the network.
    """
    torch.manual_seed(0)
    net = dynbackbones.build_backbone(name, **options).eval().requires_grad_(False)
    for block in net.modules():
        if isinstance(block, ResidualBlock):
            torch.nn.init.constant_(block.residual_layers()[-1][1].weight, GAMMA)
    net = net.to(place.device)  # what is folded depends on it
    if fold:
        net = dynbackbones.optimize_for_inference(net, pack=False)
    return net.to(place.dtype, memory_format=torch.channels_last)


class Regions:
    """Random regions of a SAR network that lie in static tensors on its device.

    Graphs that are captured once thus run with any of them.

    Args:
        net: on its device; its selection is set for good.
        images: as it will see.
        rates: shares of each block's and group's cells, exact up to a cell.
    """

    def __init__(self, net: DynamicBackbone, images: Tensor, rates: Sequence[float]) -> None:
        draws = {rate: [_drawn(net, images, rate, seed) for seed in range(DRAWS)] for rate in rates}
        self._turns = {rate: itertools.cycle(masks) for rate, masks in draws.items()}
        self.masks = {name: mask.clone() for name, mask in draws[rates[0]][0].items()}
        net.selection = net.make_selection(self.masks, 0.5, 0)

    def next(self, rate: float) -> None:
        """Brings the next choice at a rate into place."""
        for name, mask in next(self._turns[rate]).items():
            self.masks[name].copy_(mask)

    def share(self) -> float:
        """Of the regions in place, those that are refined."""
        masks = torch.cat([mask.flatten() for mask in self.masks.values()])
        return float(masks.float().mean())


def _drawn(net: DynamicBackbone, images: Tensor, rate: float, seed: int) -> Mapping[str, Tensor]:
    execution, net.execution = net.execution, "masked"
    with net.select("random", rate=rate, seed=seed):
        net(images)
    net.execution = execution
    return net.decisions.choices()


def half_policies(net: DynamicBackbone, images: int, *, alike: bool) -> Tensor:
    """Policies that keep half of a BlockDrop network's blocks, drawn at random.

    Args:
        net: the network.
        images: N.
        alike: whether all images have one policy.

    Returns:
        (N, K) bool, on the network's device.
    """
    drawn = 1 if alike else images
    policy = net.make_selection("random", 0.5, 1).policy(drawn, net.block_counts)
    device = next(net.parameters()).device
    return policy.expand(images, -1).contiguous().to(device)
