"""What a network chose in one forward pass, and what that cost."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from dynbackbones.errors import UserError
from dynbackbones.layers.regions import activation_rates

Size = tuple[int, int]


class Batch(NamedTuple):
    """The images of a forward pass.

    Attributes:
        num_images: N.
        size: (height, width) of the batch in pixels, with padding.
        sizes: (height, width) of each image without padding; None where nothing is known to be
            padded.
    """

    num_images: int
    size: Size
    sizes: list[Size] | None = None

    @property
    def image_sizes(self) -> list[Size]:
        """(height, width) of each image in pixels, without padding."""
        size = int(self.size[0]), int(self.size[1])
        return self.sizes or [size] * int(self.num_images)


class Figure(NamedTuple):
    """A figure of each image, for logs and reports.

    Attributes:
        values: (N,).
        level: what it is about: ``"image"`` (all that was chosen for it), ``"stage"`` or
            ``"block"`` of the network.
    """

    values: Tensor
    level: str


@dataclass(frozen=True)
class Regions:
    """Cells of the image that one stage refined.

    Attributes:
        masks: (N, blocks, G, rows, cols) bool, the regions refined.
        argmax_masks: what is chosen without sampling noise; the masks themselves in evaluation,
            unless the decisions are overridden.
        row_edges, col_edges: (rows + 1,), (cols + 1,) borders of the cells in input pixels.
        areas: (N or 1, rows, cols) feature pixels of each cell inside its image.
        finite: (N,) bool, whether the logits that the masks come of are; None if there are none.
    """

    masks: Tensor
    argmax_masks: Tensor
    row_edges: Tensor
    col_edges: Tensor
    areas: Tensor
    finite: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """(N or 1, rows, cols) bool, cells that lie inside their image."""
        return self.areas > 0

    def block_rates(self, argmax: bool = False) -> Tensor:
        """(N, blocks) share of regions that each block refines (SAR, eq. 7)."""
        masks = self.argmax_masks if argmax else self.masks
        return activation_rates(masks, self.valid)


class Blocks(NamedTuple):
    """Parts of a network that each image ran or left out.

    Attributes:
        actions: (N, K) bool, 1 where it ran.
        names: K of them, such as ``"res2_block1"``.
    """

    actions: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class Decisions:
    """Decisions of one forward pass; these are of a network without any.

    A network that decides derives its own from it: what was chosen as tensors, and the members
    below, which are all that logs, meters, pictures and `calibrate` ask for.

    Attributes:
        batch: the images.
        count: from the decisions to the (N,) float64 multiply-accumulates of each image.
        rate_name: what `rate` is called, such as ``"activation_rate"``.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_backbone("resnet18").eval()
        >>> _ = net(torch.rand(2, 3, 64, 64))
        >>> net.decisions.macs == net.macs(64, 64)
        tensor([True, True])
        >>> list(net.decisions.figures()), net.decisions.regions(), net.decisions.blocks()
        (['gmacs'], {}, None)
    """

    batch: Batch
    count: Callable[["Decisions"], Tensor] = field(repr=False, compare=False)

    rate_name: ClassVar[str | None] = None

    @property
    def image_sizes(self) -> list[Size]:
        """(height, width) of each image in pixels, without padding."""
        return self.batch.image_sizes

    @cached_property
    def macs(self) -> Tensor:
        """(N,) float64, multiply-accumulates of the backbone for each image.

        Convolutions and linear layers count; padding does not. Counted when first asked for.
        """
        return self.count(self)

    @property
    def rate(self) -> Tensor | None:
        """(N,) share of what could be computed that was; None where nothing is chosen."""
        return None

    @property
    def finite(self) -> Tensor | None:
        """(N,) bool, whether what the choices come of is finite; None where nothing is chosen."""
        return None

    def check_finite(self) -> None:
        """Makes sure that the choices come of numbers, not of NaN or infinity.

        Raises:
            UserError: they do not, so that neither they nor what they cost mean anything.
        """
        if self.finite is not None and not self.finite.all():
            count = int((~self.finite).sum())
            raise UserError(
                f"the decisions of {count} of {len(self.finite)} images come of values that are "
                "not finite: the weights are of a training that diverged, or the images hold NaN; "
                "use an earlier checkpoint"
            )

    def figures(self) -> dict[str, Figure]:
        """Named figures of each image, for logs and reports.

        ``"gmacs"`` (10^9 MACs), the rate, and the rates of stages and blocks.
        """
        figures = {"gmacs": Figure(self.macs / 1e9, "image")}
        if self.rate_name is not None:
            figures[self.rate_name] = Figure(self.rate, "image")
        return figures

    def regions(self) -> dict[str, Regions]:
        """Where each stage refined, by the name of its feature; empty where that is no choice."""
        return {}

    def blocks(self) -> Blocks | None:
        """Which parts of the network ran for each image; None where that is no choice."""
        return None

    def choices(self) -> Any:
        """What the network's ``select`` takes to choose the same again; None without choices."""
        return None


def sizes_macs(macs: Callable[[int, int], float], sizes: list[Size]) -> Tensor:
    """(N,) float64 from a function of height and width; equal sizes are counted once."""
    known = {size: float(macs(*size)) for size in dict.fromkeys(sizes)}
    return torch.tensor([known[size] for size in sizes], dtype=torch.float64)
