"""What a SAR network chose in one forward pass."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dynbackbones.backbones.decisions import Decisions
from dynbackbones.layers.regions import activation_rates


@dataclass(frozen=True)
class StageRegions:
    """Regions of one SAR stage.

    Attributes:
        masks: (N, blocks, G, rows, cols) bool, the regions refined.
        argmax_masks: what the selectors choose without sampling noise; they are the masks in
            evaluation, unless the decisions are overridden.
        row_edges, col_edges: (rows + 1,), (cols + 1,) borders of the cells in input pixels.
        valid: (N or 1, rows, cols) bool, cells that lie inside their image.
    """

    masks: Tensor
    argmax_masks: Tensor
    row_edges: Tensor
    col_edges: Tensor
    valid: Tensor

    def block_rates(self, argmax: bool = False) -> Tensor:
        """(N, blocks) share of regions that each block refines (SAR, eq. 7)."""
        masks = self.argmax_masks if argmax else self.masks
        return activation_rates(masks, self.valid)


@dataclass(frozen=True)
class SARDecisions(Decisions):
    """Regions that SAR stages refined.

    Attributes:
        stages: feature name (``"res2"`` ...) to the regions of the stage that ends there.
        sampled: whether the masks were sampled, as in training.
    """

    stages: dict[str, StageRegions] = field(default_factory=dict)
    sampled: bool = False

    @property
    def masks(self) -> dict[str, Tensor]:
        """Feature name to (N, blocks, G, rows, cols) bool, the regions refined."""
        return {name: stage.masks for name, stage in self.stages.items()}

    @property
    def activation_rate(self) -> Tensor:
        """(N,) share of regions refined, the mean over all blocks."""
        return torch.cat([s.block_rates() for s in self.stages.values()], dim=1).mean(dim=1)

    def region_edges(self, name: str) -> tuple[Tensor, Tensor]:
        """Borders of a stage's rows and columns of cells, in input pixels of the batch."""
        return self.stages[name].row_edges, self.stages[name].col_edges

    def summary(self, per_block: bool = False) -> dict[str, Tensor]:
        values = {**super().summary(per_block), "activation_rate": self.activation_rate}
        kinds = {"activation_rate": False} | ({"argmax_rate": True} if self.sampled else {})
        for kind, argmax in kinds.items():
            for name, stage in self.stages.items():
                rates = stage.block_rates(argmax)
                values[f"{kind}_{name}"] = rates.mean(dim=1)
                if per_block:
                    for block, rate in enumerate(rates.unbind(dim=1)):
                        values[f"{kind}_{name}_block{block + 1}"] = rate
        return values
