"""One map of classes of a coarse pass and of the patches that were looked at closely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dynbackbones.layers.patches import Box, PatchGrid


@dataclass(frozen=True)
class ClassMap:
    """What a segmentor says of an image.

    Attributes:
        labels: (H, W) int64.
        logits: (C, H, W); None of an image that is too large to keep them.
    """

    labels: Tensor
    logits: Tensor | None


@dataclass(frozen=True)
class LogitRules:
    """What a segmentor's logits mean.

    Attributes:
        align_corners: whether corner pixels lie on each other where its maps are enlarged.
        threshold: of a model with one channel, the probability above which a pixel is foreground.
    """

    align_corners: bool = False
    threshold: float = 0.5

    def labels(self, logits: Tensor) -> Tensor:
        """(C, h, w) to (h, w) int64."""
        if len(logits) > 1:
            # Ten times as fast on CPUs as argmax, and the same.
            return logits.max(dim=0).indices
        return (logits[0].sigmoid() > self.threshold).long()

    def probabilities(self, logits: Tensor) -> Tensor:
        """(C, h, w) to (K, h, w) float32 that add up to 1; K is 2 where C is 1."""
        if len(logits) > 1:
            return logits.float().softmax(dim=0)
        foreground = logits.float().sigmoid()
        return torch.cat([1 - foreground, foreground])


def merge_maps(
    coarse: Tensor, fine: Mapping[int, Tensor], grid: PatchGrid, rules: LogitRules, keep: bool
) -> ClassMap:
    """Fills the core of each patch with what was found there, closely or else in the coarse pass.

    Patch by patch, so that a large image's logits never are in memory at once.

    Args:
        coarse: (C, h, w) logits of the reduced image.
        fine: of patches that were looked at, by their numbers, what is in their cores:
            (C, height, width) logits, or their (height, width) labels.
        grid: the image's.
        rules: what logits mean.
        keep: whether the result has logits; those of ``fine`` are needed then.
    """
    labels = torch.empty(grid.size, dtype=torch.int64, device=coarse.device)
    logits = coarse.new_empty((len(coarse), *grid.size)) if keep else None
    for patch, core in enumerate(grid.cores):
        inside = rows_and_columns(core)
        found = fine.get(patch)
        if found is None:
            found = enlarged(coarse, core, grid.size, rules.align_corners)
        labels[inside] = found if found.dim() == 2 else rules.labels(found)
        if logits is not None:
            logits[(slice(None), *inside)] = found
    return ClassMap(labels, logits)


def rows_and_columns(box: Box, left: int = 0, top: int = 0) -> tuple[slice, slice]:
    """The pixels of a box in a map that starts at ``left``, ``top``."""
    x1, y1, x2, y2 = box
    return slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)


def enlarged(maps: Tensor, box: Box, size: tuple[int, int], align_corners: bool) -> Tensor:
    """A part of what bilinear interpolation makes of maps, without the rest.

    Args:
        maps: (C, h, w).
        box: x1, y1, x2, y2 in pixels of the result.
        size: (height, width) of the whole result.
        align_corners: PyTorch's.

    Returns:
        (C, y2 - y1, x2 - x1).
    """
    x1, y1, x2, y2 = box
    top, rows = _shares(y1, y2, maps.shape[1], size[0], align_corners, maps)
    left, columns = _shares(x1, x2, maps.shape[2], size[1], align_corners, maps)
    seen = maps[:, top : top + rows.shape[1], left : left + columns.shape[1]]
    return rows @ (seen @ columns.T)


def _shares(
    start: int, stop: int, source: int, target: int, align_corners: bool, like: Tensor
) -> tuple[int, Tensor]:
    """What positions of a result take of those of its source.

    Returns:
        The first position of the source that has a share, and (stop - start, n) shares of it and
        those after it.
    """
    # Double: the share of one in ten thousand pixels needs more digits than float32 has.
    places = torch.arange(start, stop, device=like.device, dtype=torch.float64)
    if align_corners:
        places = places * ((source - 1) / (target - 1) if target > 1 else 0.0)
    else:
        places = ((places + 0.5) * (source / target) - 0.5).clamp(min=0, max=source - 1)
    first, last = int(places[0]), min(int(places[-1]) + 1, source - 1)
    found = torch.arange(first, last + 1, device=like.device, dtype=torch.float64)
    shares = (1 - (places[:, None] - found).abs()).clamp(min=0)
    return first, shares.to(like.dtype)
