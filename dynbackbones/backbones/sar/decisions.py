"""What a SAR network chose in one forward pass."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dynbackbones.backbones.decisions import Decisions, Figure, Regions


@dataclass(frozen=True)
class SARDecisions(Decisions):
    """Regions that SAR stages refined.

    Attributes:
        stages: feature name (``"res2"`` ...) to the regions of the stage that ends there.
        sampled: whether the masks were sampled, as in training.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_backbone("sar_resnet18").eval()
        >>> with net.select("center", rate=0.25):
        ...     _ = net(torch.rand(1, 3, 64, 64))
        >>> net.decisions.masks["res2"][0, 0, 0].int()  # image 0, block 0, group 0
        tensor([[0, 0, 0, 0],
                [0, 1, 1, 0],
                [0, 1, 1, 0],
                [0, 0, 0, 0]], dtype=torch.int32)
        >>> net.decisions.regions()["res2"].row_edges  # in pixels of the image
        tensor([ 0, 16, 32, 48, 64])
        >>> net.decisions.activation_rate
        tensor([0.1667])
    """

    stages: dict[str, Regions] = field(default_factory=dict)
    sampled: bool = False

    rate_name = "activation_rate"

    @property
    def masks(self) -> dict[str, Tensor]:
        """Feature name to (N, blocks, G, rows, cols) bool, the regions refined."""
        return {name: stage.masks for name, stage in self.stages.items()}

    @property
    def activation_rate(self) -> Tensor:
        """(N,) share of regions refined, the mean over all blocks."""
        return torch.cat([s.block_rates() for s in self.stages.values()], dim=1).mean(dim=1)

    @property
    def rate(self) -> Tensor:
        return self.activation_rate

    @property
    def finite(self) -> Tensor | None:
        known = [stage.finite for stage in self.stages.values() if stage.finite is not None]
        return torch.stack(known).all(dim=0) if known else None

    def region_edges(self, name: str) -> tuple[Tensor, Tensor]:
        """Borders of a stage's rows and columns of cells, in input pixels of the batch."""
        return self.stages[name].row_edges, self.stages[name].col_edges

    def refined_pixels(self) -> Tensor:
        """(N, blocks) float64 on the host: pixels that each block refined, in all groups."""
        pixels = [
            (stage.masks * stage.areas[:, None, None]).sum(dim=(2, 3, 4))
            for stage in self.stages.values()
        ]
        # One transfer from the device for all stages.
        return torch.cat(pixels, dim=1).cpu().double()

    def figures(self) -> dict[str, Figure]:
        figures = super().figures()
        kinds = {"activation_rate": False} | ({"argmax_rate": True} if self.sampled else {})
        for kind, argmax in kinds.items():
            for name, stage in self.stages.items():
                rates = stage.block_rates(argmax)
                figures[f"{kind}_{name}"] = Figure(rates.mean(dim=1), "stage")
                for block, rate in enumerate(rates.unbind(dim=1), start=1):
                    figures[f"{kind}_{name}_block{block}"] = Figure(rate, "block")
        return figures

    def regions(self) -> dict[str, Regions]:
        return self.stages

    def choices(self) -> dict[str, Tensor]:
        return self.masks
