"""What the selectors of a SAR stage chose, and what the stage returns."""

from typing import NamedTuple

from torch import Tensor

from dynbackbones.layers.regions import RegionGrid


class Choice(NamedTuple):
    """What the selectors of a stage chose.

    Attributes:
        logits: (N, B, G, R, S) "select" minus "skip", with their gradient, for each of B blocks, or
            for all of them where B is 1.
        argmax: (N, B, G, R, S) bool, what is chosen in evaluation, inside the images.
        sampled: (N, B, G, R, S) of 0 and 1 with gradient, in training; else None.
    """

    logits: Tensor
    argmax: Tensor
    sampled: Tensor | None


class StageOutput(NamedTuple):
    """What a SAR stage returns.

    Attributes:
        fused: (N, C, H, W), the fusion of both branches.
        out: what goes into the next stage.
        masks: (N, B, G, R, S) bool, the regions refined.
        choice: of the selectors, which an override leaves aside.
        overridden: whether one did.
        grid: the region grid.
        gain_loss: that of `measured_masks`, where gains were measured.
    """

    fused: Tensor
    out: Tensor
    masks: Tensor
    choice: Choice
    overridden: bool
    grid: RegionGrid
    gain_loss: Tensor | None = None

    # Methods, since compilers of older torch know no properties of named tuples.
    def finite(self) -> Tensor:
        """(N,) bool, whether all logits inside an image are finite."""
        finite = self.choice.logits.detach().isfinite() | ~self.grid.valid[:, None, None]
        return finite.flatten(1).all(dim=1)

    def trained(self) -> bool:
        """Whether the masks were sampled, so that losses can move them."""
        return self.choice.sampled is not None and not self.overridden
