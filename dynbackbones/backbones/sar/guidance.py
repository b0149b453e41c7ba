"""A loss that draws selectors to what matters in an image."""

from torch import Tensor

from dynbackbones.backbones.sar.gain import MARGIN
from dynbackbones.backbones.sar.loss import global_mean
from dynbackbones.layers.regions import RegionGrid


def guidance_loss(logits: Tensor, importance: Tensor, grid: RegionGrid) -> Tensor:
    """Hinge on the logits of cells that matter; how many cells are refined is the rate loss's.

    Args:
        logits: (N, blocks, G, R, S), "select" minus "skip".
        importance: (N, R, S) in [0, 1], see `Guidance.importance`.
        grid: of the cells; those outside the images do not count.

    Returns:
        A scalar, the mean over blocks; over processes, sums are divided by the number of cells
        that matter in all of them. 0, with a gradient, where none does.
    """
    weights = (importance * grid.valid)[:, None, None].expand(-1, -1, logits.shape[2], -1, -1)
    short = (MARGIN - logits.float()).relu() * weights
    count = global_mean(weights.sum()).clamp(min=1e-6)
    return short.sum() / (count * logits.shape[1])
