"""What a classifier of patches looked at in one forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from dynbackbones.backbones.decisions import Decisions, Figure, Regions
from dynbackbones.layers.regions import RegionGrid

Costs = Mapping[str, Tensor]


@dataclass(frozen=True)
class PatchDecisions(Decisions):
    """Patches that a classifier looked at in full resolution.

    Attributes:
        policy: (N, P) bool, the patches chosen, row by row.
        probabilities: (N, P) that the policy network gave to each; None where it did not run.
        grid: the patches.
        reduced: pixels of the reduced image over pixels of the whole one; 0 where nothing looked
            at it.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_classifier("patchdrop_cifar_resnet8", num_classes=10).eval()
        >>> with net.select("horizontal", rate=0.25):
        ...     _ = net(torch.rand(1, 3, 32, 32))
        >>> net.decisions.patch_rate, net.decisions.pixel_rate
        (tensor([0.2500]), tensor([0.3125]))
        >>> {part: round(float(macs) / 1e6, 2) for part, macs in net.decisions.macs_by_part.items()}
        {'policy': 0.77, 'high': 12.24, 'low': 0.77}
    """

    policy: Tensor
    probabilities: Tensor | None
    grid: RegionGrid = field(repr=False, compare=False)
    reduced: float

    rate_name = "patch_rate"

    @property
    def patch_rate(self) -> Tensor:
        """(N,) share of the patches chosen."""
        return self.policy.sum(dim=1) / self.grid.valid.sum()

    @property
    def pixel_rate(self) -> Tensor:
        """(N,) pixels that must be acquired over those of the image: what patches save.

        The chosen patches and, where anything looks at it, the reduced image.
        """
        areas = self.grid.areas[0].flatten()
        return (self.policy * areas).sum(dim=1) / areas.sum() + self.reduced

    @cached_property
    def macs_by_part(self) -> dict[str, Tensor]:
        """(N,) float64 multiply-accumulates of each part that ran: policy, high, low."""
        return self.count(self)

    @cached_property
    def macs(self) -> Tensor:
        return sum(self.macs_by_part.values(), torch.zeros(len(self.policy), dtype=torch.float64))

    @property
    def rate(self) -> Tensor:
        return self.patch_rate

    @property
    def finite(self) -> Tensor | None:
        return None if self.probabilities is None else self.probabilities.isfinite().all(dim=1)

    def figures(self) -> dict[str, Figure]:
        return {**super().figures(), "pixel_rate": Figure(self.pixel_rate, "image")}

    def regions(self) -> dict[str, Regions]:
        """The patches as cells of the image, under the name ``"image"``."""
        masks = self.policy.view(-1, 1, 1, *self.grid.shape)
        edges = self.grid.row_edges, self.grid.col_edges
        return {"image": Regions(masks, masks, *edges, self.grid.areas, self.finite)}

    def choices(self) -> Tensor:
        return self.policy
