"""What an image is, by the vectors of all that was seen of it so far."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KINDS = ("recurrent", "cascade")
LONGEST_CASCADE = 5


class RecurrentHead(nn.Module):
    """A recurrent unit over the vectors, and a linear layer on its state.

    Args:
        channels: of the vectors.
        num_classes: number of classes.
        width: of the state.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 1024) -> None:
        super().__init__()
        self.unit = nn.GRUCell(channels, width)
        self.fc = nn.Linear(width, num_classes)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    @property
    def trained(self) -> bool:
        """Whether it tells classes apart at all."""
        return bool(self.fc.weight.any())

    def forward(self, vector: Tensor, state: Tensor | None, first: Tensor) -> tuple[Tensor, Tensor]:
        """Logits after another look, and the state.

        Args:
            vector: (N, channels) of the look.
            state: what was returned after the look before; None at the first.
            first: (N, classes) logits that the encoder itself has for this look.

        Returns:
            (N, classes) float32, and the next state.
        """
        with torch.autocast(vector.device.type, enabled=False):
            state = self.unit(vector.to(self.fc.weight.dtype), state)
            return self.fc(state).float(), state

    def macs(self, step: int) -> float:
        """Multiply-accumulates of a step, from 1."""
        return float(sum(w.numel() for w in (self.unit.weight_ih, self.unit.weight_hh,
                                             self.fc.weight)))  # fmt: skip


class CascadeHead(nn.Module):
    """A linear layer for each step, on all vectors so far; the glance's is its encoder's own.

    Args:
        channels: of the vectors.
        num_classes: number of classes.
        steps: of the sequence, at most 5.

    Raises:
        ValueError: it is longer.
    """

    def __init__(self, channels: int, num_classes: int, steps: int) -> None:
        super().__init__()
        if steps > LONGEST_CASCADE:
            raise ValueError(
                f"steps must be at most {LONGEST_CASCADE} for head='cascade', which has a layer "
                f"for each, got {steps}; take fewer, or head='recurrent'"
            )
        self.first_macs = float(channels * num_classes)
        self.layers = nn.ModuleList(
            nn.Linear(count * channels, num_classes) for count in range(2, steps + 1)
        )
        for layer in self.layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def trained(self) -> bool:
        """Whether it tells classes apart at all."""
        return all(bool(layer.weight.any()) for layer in self.layers)

    def forward(self, vector: Tensor, state: Tensor | None, first: Tensor) -> tuple[Tensor, Tensor]:
        """See `RecurrentHead.forward`; the state is all vectors one behind the other."""
        if state is None:
            return first.float(), vector.float()
        state = torch.cat([state, vector.float()], dim=1)
        with torch.autocast(vector.device.type, enabled=False):
            layer = self.layers[state.shape[1] // vector.shape[1] - 2]
            return layer(state.to(layer.weight.dtype)).float(), state

    def macs(self, step: int) -> float:
        """Multiply-accumulates of a step, from 1."""
        return step * self.first_macs
