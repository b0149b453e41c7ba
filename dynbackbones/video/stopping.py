"""When to stop looking at more frames: AdaFrame's rule, and the one it is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from dynbackbones.errors import UserError


class Lookahead:
    """Stops when the predicted utility of more frames stays below its highest (AdaFrame, 3.3.2).

    Steps whose utility lies more than ``margin`` below the running maximum are counted, from 0
    again at a new maximum; where they are more than ``patience``, that step is the last.

    Args:
        margin: mu, in units of the reward, whose sum is at most 2: calibrate it. The larger, the
            later. Infinity never stops.
        patience: p, of which the paper prints 2, and K / 2 + 1 at mu = 0.7, values that its own
            frame counts contradict.
        min_steps: steps that are always taken.

    Raises:
        UserError: one of them is out of range.

    Example:
        >>> from dynbackbones import video
        >>> stop = video.Lookahead(margin=0.2, patience=1)
        >>> [stop(utility) for utility in (0.9, 0.5, 0.6)]
        [False, False, True]
    """

    def __init__(self, margin: float, patience: int = 2, min_steps: int = 1) -> None:
        if not margin >= 0:
            raise UserError(f"margin must be at least 0, got {margin}")
        if patience < 0:
            raise UserError(f"patience must be at least 0, got {patience}")
        if min_steps < 1:
            raise UserError(f"min_steps must be at least 1, got {min_steps}")
        self.margin, self.patience, self.min_steps = margin, patience, min_steps
        self._steps, self._below, self._highest = 0, 0, float("-inf")

    def __call__(self, utility: float) -> bool:
        """Whether the step with this utility is the last of its video."""
        self._steps += 1
        if utility > self._highest:
            self._highest, self._below = utility, 0
        elif self._highest - utility > self.margin:
            self._below += 1
        return self._steps >= self.min_steps and self._below > self.patience


def lookahead_steps(
    utilities: Tensor, taken: Tensor, margin: float, patience: int = 2, min_steps: int = 1
) -> Tensor:
    """Steps after which `Lookahead` stops.

    Args:
        utilities: (N, K).
        taken: (N,) steps that took place.
        margin, patience, min_steps: see `Lookahead`.

    Returns:
        (N,) in 1..taken.
    """
    steps = []
    for values, last in zip(utilities.tolist(), taken.tolist(), strict=True):
        stop = Lookahead(margin, patience, min_steps)
        steps.append(next((t for t in range(1, last) if stop(values[t - 1])), last))
    return torch.tensor(steps, device=utilities.device)


def confident_steps(scores: Tensor, taken: Tensor, threshold: float) -> Tensor:
    """Steps after which the largest probability first reaches a threshold, at most those taken.

    Args:
        scores: (N, K, C) probabilities.
        taken: (N,) steps that took place.
        threshold: the larger, the later.

    Returns:
        (N,) in 1..taken.
    """
    sure = scores.amax(dim=2) >= threshold
    first = torch.where(sure.any(dim=1), sure.int().argmax(dim=1) + 1, scores.shape[1])
    return torch.minimum(first, taken)
