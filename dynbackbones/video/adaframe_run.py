"""What AdaFrame did with videos."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AdaFrameRun:
    """What an agent did with a batch of videos in K steps.

    Attributes:
        logits: (N, K, C) after each step.
        locations: (N, K) in [0, 1] along the video, before they are clamped.
        indices: (N, K) frames.
        utilities: (N, K), predicted returns of what follows.
        log_probs: (N, K - 1), log densities of the locations that were drawn, with gradient.
        taken: (N,) steps that took place; fewer than K where every frame was seen.
        attention: (N, K, Td) weights of the memory.
    """

    logits: Tensor
    locations: Tensor
    indices: Tensor
    utilities: Tensor
    log_probs: Tensor
    taken: Tensor
    attention: Tensor

    @property
    def scores(self) -> Tensor:
        """(N, K, C) probabilities."""
        return self.logits.softmax(dim=2)

    @property
    def real(self) -> Tensor:
        """(N, K) bool, steps that took place."""
        return torch.arange(self.logits.shape[1], device=self.taken.device) < self.taken[:, None]

    def answers(self, steps: Tensor | None = None) -> Tensor:
        """Logits (N, C) after a number of steps (N,), by default all that took place."""
        last = (self.taken if steps is None else steps) - 1
        return self.logits[torch.arange(len(last), device=last.device), last]

    def distinct(self, steps: Tensor | None = None) -> Tensor:
        """(N,) different frames in the first steps, which is what is computed."""
        steps = self.taken if steps is None else steps
        pairs = zip(self.indices.tolist(), steps.tolist(), strict=True)
        return torch.tensor([len(set(row[:count])) for row, count in pairs])


@dataclass(frozen=True)
class AdaFrameAnswer:
    """What an agent says of one video.

    Attributes:
        scores: (C,) probabilities.
        frames: indices in the order in which they were looked at, repeated ones too.
        reason: ``"utility"``, ``"steps"``, or ``"seen"`` where every frame was seen.
    """

    scores: Tensor
    frames: list[int]
    reason: str

    @property
    def computed(self) -> int:
        """Different frames, of which features were asked for."""
        return len(set(self.frames))


def frame_index(locations: Tensor, lengths: Tensor) -> Tensor:
    """Frames (N,) at locations (N,) along videos of so many frames (N,)."""
    index = (locations.detach().clamp(0, 1) * lengths).long()
    return torch.minimum(index, lengths - 1)
