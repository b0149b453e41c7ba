"""Region masks that override a network's own decisions: ablations, latency, tests."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dynbackbones.backbones.selections import check_kind, check_rate
from dynbackbones.layers.regions import RegionGrid

KINDS = ("all", "none", "center", "uniform", "random")


@dataclass(frozen=True)
class RegionSelection:
    """Which regions to refine instead of the learned ones.

    Attributes:
        kind: ``"all"``, ``"none"``, ``"center"`` (a block of cells in the middle), ``"uniform"``
            (cells spread evenly; both as in SAR, table I), ``"random"`` (drawn for each image,
            block and group); or a mapping from stage name (``"res2"`` ...) to a mask that
            broadcasts to (N, blocks, G, rows, cols).
        rate: share of cells that the last three kinds select, in [0, 1].
        seed: of ``"random"``.

    Raises:
        ValueError: an unknown kind or a rate out of range.
    """

    kind: str | Mapping[str, Tensor]
    rate: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.kind, Mapping):
            check_kind(self.kind, KINDS, "a dict of masks")
        check_rate(self.rate)

    def masks(self, stage: str, images: int, blocks: int, groups: int, grid: RegionGrid) -> Tensor:
        """Masks of one stage: (images, blocks, groups, rows, cols) bool.

        Raises:
            ValueError: a mask given as tensor is missing, not binary or of another shape.
        """
        shape = (images, blocks, groups, *grid.shape)
        if isinstance(self.kind, Mapping):
            mask = _given(self.kind, stage, shape).to(grid.valid.device)
        elif self.kind == "random":
            generator = torch.Generator().manual_seed(self.seed)
            scores = torch.rand(shape, generator=generator)
            scores = scores.to(grid.valid.device, non_blocking=True)
            mask = _lowest(scores, grid.valid, self.rate)
        else:
            mask = torch.stack([self._pattern(valid) for valid in grid.valid])[:, None, None]
        return mask.expand(shape) & grid.valid[:, None, None]

    def _pattern(self, valid: Tensor) -> Tensor:
        """One image's mask: (rows, cols) bool, for the cells inside that image."""
        if self.kind == "all":
            return torch.ones_like(valid)
        if self.kind == "none":
            return torch.zeros_like(valid)
        rows = torch.arange(valid.shape[0], device=valid.device)
        cols = torch.arange(valid.shape[1], device=valid.device)
        if self.kind == "uniform":
            # Counts rise by `rate` along each row; the golden ratio shifts the rows against each
            # other, so that no columns form.
            start = (rows * 0.6180339887 % 1).unsqueeze(1)
            return ((cols + 1) * self.rate + start).floor() > (cols * self.rate + start).floor()
        inside = [_middle(valid.any(dim=1 - axis), self.rate**0.5) for axis in (0, 1)]
        return inside[0].unsqueeze(1) & inside[1]


def _given(masks: Mapping[str, Tensor], stage: str, shape: tuple[int, ...]) -> Tensor:
    if stage not in masks:
        raise ValueError(f"selection has no mask for stage {stage!r}, only {sorted(masks)}")
    mask = torch.as_tensor(masks[stage])
    try:
        mask = mask.expand(shape)
    except RuntimeError:
        raise ValueError(
            f"selection[{stage!r}] has shape {tuple(mask.shape)}, which does not broadcast to "
            f"(images, blocks, groups, rows, cols) = {shape}"
        ) from None
    if mask.dtype != torch.bool and not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"selection[{stage!r}] must contain only 0 and 1")
    return mask.bool()


def _lowest(scores: Tensor, valid: Tensor, rate: float) -> Tensor:
    """Selects the share ``rate`` of valid cells with the lowest scores, rounded to cells."""
    valid = valid[:, None, None].expand_as(scores)
    scores = scores.masked_fill(~valid, torch.inf).flatten(3)
    ranks = scores.argsort(dim=3).argsort(dim=3)
    wanted = (valid.flatten(3).sum(dim=3, keepdim=True) * rate).round()
    return (ranks < wanted).view_as(valid)


def _middle(valid: Tensor, share: float) -> Tensor:
    """The middle ``share`` of the valid positions of an axis, rounded."""
    rank = valid.cumsum(dim=0) - 1
    length = int(valid.sum())
    wanted = round(length * share)
    start = (length - wanted) // 2
    return valid & (rank >= start) & (rank < start + wanted)
