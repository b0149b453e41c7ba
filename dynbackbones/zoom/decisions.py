"""Which patches of each image were looked at closely, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dynbackbones.backbones.decisions import Decisions, Figure, Regions
from dynbackbones.layers.patches import PatchGrid


@dataclass(frozen=True)
class ZoomDecisions(Decisions):
    """Decisions of one call of a zoom.

    Attributes:
        grids: of each image.
        values: (P,) of each image, what its policy expects of its patches.
        chosen: (P,) bool of each image.
        scale: by which the coarse pass is smaller.
        parts: (N,) float64 multiply-accumulates of ``"coarse"``, ``"policy"``, ``"fine"``, counted
            by ``count``.
        seconds: of the same and ``"merge"``, for the whole batch.
    """

    grids: list[PatchGrid] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    chosen: list[Tensor] = field(default_factory=list)
    scale: float = 1.0
    seconds: Mapping[str, float] = field(default_factory=dict)

    rate_name = "patch_rate"

    @property
    def rate(self) -> Tensor:
        """(N,) share of patches that were looked at."""
        return torch.stack([chosen.double().mean().cpu() for chosen in self.chosen])

    @property
    def pixel_rate(self) -> Tensor:
        """(N,) pixels that the model saw, in both passes, for each pixel of the image."""
        pairs = zip(self.grids, self.chosen, strict=True)
        crops = [grid.seen(int(chosen.sum())) for grid, chosen in pairs]
        return torch.tensor(crops, dtype=torch.float64) + 1 / self.scale**2

    @property
    def finite(self) -> Tensor:
        return torch.stack([values.isfinite().all().cpu() for values in self.values])

    def figures(self) -> dict[str, Figure]:
        figures = super().figures()
        figures["pixel_rate"] = Figure(self.pixel_rate, "image")
        return figures

    def regions(self) -> dict[str, Regions]:
        """Patches as the regions of a stage called ``"zoom"``; empty if images differ in size."""
        grid = self.grids[0]
        if any(other.size != grid.size for other in self.grids):
            return {}
        masks = torch.stack(self.chosen).view(-1, 1, 1, *grid.shape)
        rows, columns = (torch.tensor(edges) for edges in grid.edges)
        areas = rows.diff()[:, None] * columns.diff()[None]
        return {"zoom": Regions(masks, masks, rows, columns, areas[None])}

    def choices(self) -> list[Tensor]:
        return self.chosen
