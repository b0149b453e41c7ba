"""Where to look next, by all that was seen so far."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dynbackbones.backbones.resnet import check_choice

FORMS = ("convolution", "flatten")
_CHANNELS = 32


class Proposal(NamedTuple):
    """A place, and what is expected of it.

    Attributes:
        place: (N, 2) of the crop between the image's borders, down and right, in [0, 1]:
            0 and 1 touch them.
        value: (N,), the return that the critic expects; training only.
        memory: (N, width), to be given back with the next map.
    """

    place: Tensor
    value: Tensor
    memory: Tensor


class PatchProposal(nn.Module):
    """Proposes the next crop from the last map and a memory of those before.

    Args:
        map_shape: (channels, height, width) of the encoders' maps.
        form: ``"convolution"`` (to 32 channels, 1 x 1, then a layer of 256), or ``"flatten"`` (the
            whole map to 2048 and 1024, which for ResNets costs more parameters than the encoders).

    Raises:
        ValueError: there is no such form.
    """

    def __init__(self, map_shape: tuple[int, int, int], form: str = "convolution") -> None:
        super().__init__()
        check_choice("proposal", form, FORMS)
        channels, height, width = map_shape
        self.map_shape = tuple(map_shape)
        layers = [nn.Flatten(), nn.Linear(channels * height * width, 2048), nn.ReLU()]
        self.width, before = 1024, 2048
        if form == "convolution":
            layers = [nn.Conv2d(channels, _CHANNELS, 1), nn.ReLU(), nn.Flatten()]
            self.width, before = 256, _CHANNELS * height * width
        self.encoder = nn.Sequential(*layers, nn.Linear(before, self.width), nn.ReLU())
        self.memory = nn.GRUCell(self.width, self.width)
        self.actor = nn.Linear(self.width, 2)
        self.critic = nn.Linear(self.width, 1)
        # The centre at first, whatever is seen.
        nn.init.zeros_(self.actor.weight)
        nn.init.zeros_(self.actor.bias)

    @property
    def trained(self) -> bool:
        """Whether places depend on the image; before the first training step they do not."""
        return bool(self.actor.weight.any())

    def forward(self, seen: Tensor, memory: Tensor | None) -> Proposal:
        """Proposes in float32, whatever the encoders compute in.

        Args:
            seen: (N, channels, height, width), the last map; nothing is learned through it.
            memory: (N, width) of the last proposal; None at the first.
        """
        with torch.autocast(seen.device.type, enabled=False):
            encoded = self.encoder(seen.detach().to(self.actor.weight.dtype))
            memory = self.memory(encoded, memory)
            place = self.actor(memory).float().sigmoid()
            return Proposal(place, self.critic(memory).float().squeeze(1), memory)

    @property
    def macs(self) -> float:
        """Multiply-accumulates of a proposal; the critic, of which nothing depends, is not in."""
        _, height, width = self.map_shape
        layers = [*self.encoder, self.actor]
        total = sum(m.weight.numel() for m in layers if isinstance(m, nn.Linear))
        pixels = height * width
        total += sum(m.weight.numel() * pixels for m in layers if isinstance(m, nn.Conv2d))
        return total + self.memory.weight_ih.numel() + self.memory.weight_hh.numel()
