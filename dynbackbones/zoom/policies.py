"""What a closer look at each patch is expected to be worth, from the coarse pass alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.boxes import Boxes


@dataclass(frozen=True)
class CoarsePass:
    """What a policy knows of an image.

    Attributes:
        grid: its patches.
        image: (C, h, w), reduced.
        boxes: detections, in pixels of the image; None of a segmentor.
        probabilities: (K, h, w) of a segmentor; None of a detector.
        features: (C, h, w) a map of the model; None where it gives none.
        stride: pixels of the image for each of the map.
        logits: (C, h, w) that the probabilities come of.
    """

    grid: PatchGrid
    image: Tensor
    boxes: Boxes | None = None
    probabilities: Tensor | None = None
    features: Tensor | None = None
    stride: float = 1.0
    logits: Tensor | None = None

    @property
    def probability_stride(self) -> float:
        """Pixels of the image for each of `probabilities`."""
        return self.grid.size[0] / self.probabilities.shape[1]


Policy = Callable[[CoarsePass], Tensor]
"""From a coarse pass to (P,) values, float32; the larger, the sooner a patch is looked at."""


def score(coarse: CoarsePass) -> Tensor:
    """The sum of the scores of what a detector found in each patch."""
    return _sums(coarse, coarse.boxes.scores)


def entropy(coarse: CoarsePass) -> Tensor:
    """How undecided a model is: sums over a patch's detections, means over its pixels, in nats."""
    if coarse.boxes is not None:
        p = coarse.boxes.scores.float()
        return _sums(coarse, -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)))
    undecided = -torch.xlogy(coarse.probabilities, coarse.probabilities).sum(dim=0, keepdim=True)
    return coarse.grid.pool(undecided, coarse.probability_stride)[0][:, 0]


def center(coarse: CoarsePass) -> Tensor:
    """How near a patch is to the middle of the image."""
    height, width = coarse.grid.size
    cores = torch.tensor(coarse.grid.cores, dtype=torch.float32, device=coarse.image.device)
    x, y = (cores[:, :2] + cores[:, 2:]).div(2).unbind(1)
    return -torch.hypot(x / width - 0.5, y / height - 0.5)


def random(coarse: CoarsePass) -> Tensor:
    """Any patch as soon as another; the same ones whenever an image is the same."""
    # Of the pixels, so that an image alone is treated as it is in a batch.
    seed = zlib.crc32(coarse.image.detach().cpu().contiguous().float().numpy().tobytes())
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(coarse.grid), generator=generator).to(coarse.image.device)


POLICIES: dict[str, Policy] = {
    "score": score,
    "entropy": entropy,
    "center": center,
    "random": random,
}
"""Those that need no training."""


def _sums(coarse: CoarsePass, values: Tensor) -> Tensor:
    owners = coarse.grid.owners(coarse.boxes.centres)
    sums = torch.zeros(len(coarse.grid), device=values.device)
    return sums.index_add_(0, owners, values.float())
