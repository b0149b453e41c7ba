"""AdaFrame's global memory: a few small frames of the whole video, and attention over them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

POSITIONS = ("keys", "keys_and_values")


class Memory(NamedTuple):
    """What is attended to.

    Attributes:
        keys, values: (N, Td, Dm).
        real: (N, Td) bool, False in padding.
    """

    keys: Tensor
    values: Tensor
    real: Tensor


class MemoryAttention(nn.Module):
    """Context of a state: contents of the memory weighted by ``softmax(W_h h . (v + PE))``.

    Args:
        channels: of the memory's features.
        hidden: of the state.
        frames: Td of a video that has as many; shorter ones are spread over the same positions.
        position: ``"keys"``, as printed: the context holds contents without where they were; with
            ``"keys_and_values"`` it holds both, so that a jump to what was found can be learned.
    """

    def __init__(self, channels: int, hidden: int, frames: int, position: str) -> None:
        super().__init__()
        self.query = nn.Linear(hidden, channels, bias=False)
        self.frames, self.position = frames, position

    def prepare(self, memory: Tensor, lengths: Tensor) -> Memory:
        """Adds positions; arguments are features (N, Td, Dm) and real frames (N,) of each video."""
        index = torch.arange(memory.shape[1], device=memory.device)
        place = (index + 0.5) * (self.frames / lengths[:, None]) - 0.5
        keys = memory + positional_encoding(place, memory.shape[2]).to(memory)
        real = index < lengths[:, None]
        return Memory(keys, keys if self.position == "keys_and_values" else memory, real)

    def forward(self, state: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Context (N, Dm) of a state (N, hidden), and the weights (N, Td)."""
        match = (memory.keys @ self.query(state)[:, :, None]).squeeze(2)
        weights = match.masked_fill(~memory.real, -torch.inf).softmax(dim=1)
        return (weights[:, None] @ memory.values).squeeze(1), weights


def positional_encoding(places: Tensor, channels: int) -> Tensor:
    """Sines and cosines of places (...), as transformers have them: (..., channels)."""
    pairs = torch.arange(0, channels, 2, device=places.device)
    angles = places[..., None] * torch.exp(pairs * (-math.log(10000.0) / channels))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :channels]
