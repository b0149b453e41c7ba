"""Where a classifier looked, how sure it was after each look, and when it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from dynbackbones.backbones.decisions import Decisions


class FocusChoices(NamedTuple):
    """Where to look, and how often.

    Attributes:
        corners: (N, T - 1, 2) row and column of the first pixel of each crop; of those after the
            last step anything.
        steps: (N,) how many steps each image takes, the glance among them.
    """

    corners: Tensor
    steps: Tensor


@dataclass(frozen=True)
class FocusDecisions(Decisions):
    """Looks of one forward pass.

    Attributes:
        steps: (N,) how many steps each image took, the glance among them.
        corners: (N, T - 1, 2) row and column of the first pixel of each crop; -1 where it was not
            looked at.
        confidences: (N, T) float32, of the most probable class after each step; NaN for steps that
            were not taken.
        classes: (N, T) the most probable class after each step; -1 for steps that were not taken.
        patch: edge of a crop in pixels.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_classifier(
        ...     "glance_focus_cifar_resnet8", num_classes=10, patch=16, steps=3, exits=[0.05, 0.9]
        ... ).eval()
        >>> _ = net(torch.rand(2, 3, 32, 32))
        >>> net.decisions.steps, net.decisions.step_rate
        (tensor([1, 1]), tensor([0.3333, 0.3333]))
        >>> net.decisions.boxes[0]
        tensor([[ 0,  0, 32, 32],
                [-1, -1, -1, -1],
                [-1, -1, -1, -1]])
    """

    steps: Tensor
    corners: Tensor
    confidences: Tensor
    classes: Tensor
    patch: int

    rate_name = "step_rate"

    @property
    def step_rate(self) -> Tensor:
        """(N,) share of the steps that were taken."""
        return self.steps / self.confidences.shape[1]

    @property
    def rate(self) -> Tensor:
        return self.step_rate

    @property
    def boxes(self) -> Tensor:
        """(N, T, 4) x1, y1, x2, y2 of what was looked at, the whole image first; else -1."""
        height, width = self.batch.size
        first = torch.tensor([0, 0, width, height]).expand(len(self.steps), 1, 4)
        upper = self.corners.flip(2)
        boxes = torch.cat([upper, upper + self.patch], dim=2)
        boxes = boxes.where((self.corners >= 0).all(dim=2, keepdim=True), torch.tensor(-1))
        return torch.cat([first, boxes], dim=1)

    @cached_property
    def step_macs(self) -> Tensor:
        """(N, T) float64 multiply-accumulates of each step; 0 where it was not taken."""
        return self.count(self)

    @cached_property
    def macs(self) -> Tensor:
        return self.step_macs.sum(dim=1)

    @cached_property
    def finite(self) -> Tensor:
        taken = torch.arange(self.confidences.shape[1]) < self.steps[:, None]
        return (self.confidences.isfinite() | ~taken).all(dim=1)

    def choices(self) -> FocusChoices:
        return FocusChoices(self.corners, self.steps)
