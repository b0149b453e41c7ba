"""Which patches to look at instead of the learned ones: baselines and tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynbackbones.backbones.sar.selection import KINDS as REGION_KINDS
from dynbackbones.backbones.sar.selection import RegionSelection
from dynbackbones.backbones.selections import check_kind, check_rate
from dynbackbones.layers.regions import RegionGrid
from dynbackbones.policy.actions import is_binary

KINDS = (*REGION_KINDS, "first", "horizontal", "vertical", "stochastic")

# Fixed-H of PatchDrop's figure 3, as (row, column). The paper leaves out (0, 3); it is the last.
_HORIZONTAL = (
    (1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (2, 3), (1, 0), (2, 0),
    (0, 0), (3, 0), (0, 1), (3, 1), (0, 2), (3, 2), (3, 3), (0, 3),
)  # fmt: skip


@dataclass(frozen=True)
class PatchSelection:
    """Which patches to look at instead of the learned ones.

    Attributes:
        kind: ``"all"``, ``"none"``, ``"center"``, ``"uniform"`` and ``"random"`` as for
            `RegionSelection`; ``"first"`` (row by row), ``"horizontal"`` (rows from the middle
            outwards) and ``"vertical"`` (columns from the middle), the fixed orders of PatchDrop's
            section 5.2; ``"stochastic"`` (drawn for each image, the rarer the farther from the
            centre); or a policy of 0 and 1, (P,) for all images or (N, P), row by row.
        rate: share of patches, in [0, 1], rounded.
        seed: of ``"random"`` and ``"stochastic"``.

    Raises:
        ValueError: an unknown kind, a rate out of range, or a policy that is not one.
    """

    kind: "str | Tensor | Sequence"
    rate: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if isinstance(self.kind, str):
            check_kind(self.kind, KINDS, "a policy of 0 and 1")
            return
        policy = torch.as_tensor(self.kind)
        if policy.dim() not in (1, 2) or not is_binary(policy):
            raise ValueError(
                f"selection must be (patches,) or (images, patches) of 0 and 1, got shape "
                f"{tuple(policy.shape)} with values {policy.unique().tolist()[:4]}"
            )
        object.__setattr__(self, "kind", policy.bool())

    def policy(self, images: int, grid: RegionGrid) -> Tensor:
        """The policy of a batch: (images, P) bool; empty cells are never chosen.

        Raises:
            ValueError: a given policy is for another number of images or patches.
        """
        valid = grid.valid[0].flatten()
        if isinstance(self.kind, Tensor):
            return self._given(images, len(valid)).to(valid.device) & valid
        if self.kind in REGION_KINDS:
            regions = RegionSelection(self.kind, self.rate, self.seed)
            return regions.masks("patches", images, 1, 1, grid).flatten(1)
        ranks = self._scores(images, grid).masked_fill(~valid, torch.inf).argsort(dim=1)
        return (ranks.argsort(dim=1) < round(self.rate * int(valid.sum()))) & valid

    def _given(self, images: int, patches: int) -> Tensor:
        if self.kind.shape[-1] != patches:
            raise ValueError(
                f"selection has {self.kind.shape[-1]} entries for each image, but the grid has "
                f"{patches} patches"
            )
        if self.kind.dim() == 2 and len(self.kind) not in (1, images):
            raise ValueError(f"selection has {len(self.kind)} policies for {images} images")
        return self.kind.expand(images, patches)

    def _scores(self, images: int, grid: RegionGrid) -> Tensor:
        """(images, P), the lower the sooner chosen."""
        rows, cols = grid.shape
        if self.kind == "stochastic":
            generator = torch.Generator().manual_seed(self.seed)
            noise = torch.empty(images, rows * cols).exponential_(generator=generator)
            return (noise / _survival(rows, cols)).to(grid.valid.device)
        cells = [(row, col) for row in range(rows) for col in range(cols)]
        order = {"horizontal": _horizontal, "vertical": _vertical}.get(self.kind, sorted)(cells)
        scores = torch.tensor([float(order.index(cell)) for cell in cells])
        return scores.to(grid.valid.device).expand(images, -1)


def _horizontal(cells: list[tuple[int, int]]) -> list[tuple[int, int]]:
    rows, cols = (n + 1 for n in cells[-1])
    if (rows, cols) == (4, 4):
        return list(_HORIZONTAL)
    middle = (rows - 1) / 2
    return sorted(cells, key=lambda c: (abs(c[0] - middle), _from_middle(c[1], cols), c[0]))


def _vertical(cells: list[tuple[int, int]]) -> list[tuple[int, int]]:
    cols = cells[-1][1] + 1
    return sorted(cells, key=lambda c: (_from_middle(c[1], cols), c[0]))


def _from_middle(col: int, cols: int) -> int:
    """Place of a column where those from the middle come first: 1, 2, 3, 0 of four."""
    return (col - (cols - 1) // 2) % cols


def _survival(rows: int, cols: int) -> Tensor:
    """(P,) weights that fall from the centre of the image outwards.

    The paper gives no formula; nothing is certain to be left out, and the corners are rare.
    """
    y, x = ((torch.arange(n) + 0.5) / n - 0.5 for n in (rows, cols))
    distance = (y[:, None] ** 2 + x**2).sqrt().flatten()
    return 1 - 0.9 * distance / distance.max().clamp(min=1e-6)
