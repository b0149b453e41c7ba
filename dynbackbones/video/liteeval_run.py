"""What LiteEval did with videos, and what it remembers between frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Cell = tuple[Tensor, Tensor]
"""State and cell of an LSTM, each (N, hidden)."""


@dataclass(frozen=True)
class LiteEvalRun:
    """What a model did with a batch of videos.

    Attributes:
        logits: (N, T, C) after each frame.
        gates: (N, T) of 0 and 1, where fine features were used; 0 past a video's end. In training
            with the straight-through gradient.
        gate_logits: (N, T), of "fine" minus "skip".
        lengths: (N,).
    """

    logits: Tensor
    gates: Tensor
    gate_logits: Tensor
    lengths: Tensor

    @property
    def scores(self) -> Tensor:
        """(N, T, C) probabilities."""
        return self.logits.softmax(dim=2)

    @property
    def rates(self) -> Tensor:
        """(N,) share of each video's frames with fine features."""
        return self.gates.sum(dim=1) / self.lengths

    def answers(self) -> Tensor:
        """Logits (N, C) after the last frame."""
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        return self.logits[rows, self.lengths - 1]


class LiteEvalState(NamedTuple):
    """State of N streams between frames; never changed, each step makes another.

    Attributes:
        coarse, fine: states and cells of the LSTMs.
        frames, fine_frames: (N,) seen so far, and those with fine features.
        gate: (N,) bool, whether the last frame had them.
    """

    coarse: Cell
    fine: Cell
    frames: Tensor
    fine_frames: Tensor
    gate: Tensor
