"""A split of the demo's needle videos as features of each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dynbackbones.video.encoder import FrameEncoder
from dynbackbones.video.needle_encoders import FeaturePlan, drawn_videos

Scale = tuple[Tensor, Tensor]
"""Mean and spread (D,) of features."""


class Videos(NamedTuple):
    """Features of a split.

    Attributes:
        coarse, fine: (N, T, D) float32.
        labels, first: (N,) class, and first frame with the digit.
    """

    coarse: Tensor
    fine: Tensor
    labels: Tensor
    first: Tensor

    def part(self, index: Tensor | slice) -> Videos:
        """Some of the videos."""
        return Videos(*(values[index] for values in self))

    def scales(self) -> list[Scale]:
        """Of the coarse and the fine features; all splits are scaled by those of training."""
        both = (self.coarse, self.fine)
        return [(each.mean(dim=(0, 1)), each.std(dim=(0, 1)) + 1e-3) for each in both]

    def scaled(self, scales: Sequence[Scale]) -> Videos:
        """The same videos, their features standardised."""
        pairs = zip((self.coarse, self.fine), scales, strict=True)
        coarse, fine = ((values - mean) / std for values, (mean, std) in pairs)
        return self._replace(coarse=coarse, fine=fine)


def encoded(split: str, plan: FeaturePlan, encoders: Mapping[str, FrameEncoder]) -> Videos:
    """The features of a split, ``"train"`` or ``"val"``, as its encoders give them."""
    found = []
    for video in drawn_videos(split, plan, "encoding"):
        frames = torch.from_numpy(video.frames).permute(0, 3, 1, 2)
        features = [encoders[name](frames) for name in ("coarse", "fine")]
        found.append((*features, torch.tensor(video.label), torch.tensor(video.first)))
    return Videos(*(torch.stack(values) for values in zip(*found, strict=True)))
