"""Selectors learn where refining pays, from the gradient of a pass that refines everything."""

import torch
from torch import Tensor

from dynbackbones.layers.regions import RegionGrid

MARGIN = 1.0
"""Logit at which a selector that is drawn to a cell, or off it, is left alone."""

EVERY = 4
"""One training pass of so many measures gains, on average."""


def is_measured() -> bool:
    """Draws whether a training pass measures gains: with torch's random state, which runs save."""
    return bool(torch.rand(()) < 1 / EVERY)


def measured_masks(logits: Tensor, grid: RegionGrid, share: float) -> tuple[Tensor, Tensor]:
    """Masks that refine everything, and a loss whose gradient teaches where that paid.

    In the backward pass, minus the gradient of a cell's mask is to first order what refining it
    takes off the task's loss (as the criterion by which Molchanov et al., 2017, prune). Of each
    block and channel group the cells with the largest gains in the batch, as many as ``share``
    says, are drawn to "select" and all others to "skip", by a hinge on their logits.

    Args:
        logits: (N, blocks, G, R, S), "select" minus "skip".
        grid: of the cells; those outside the images do not count.
        share: of the cells, in (0, 1].

    Returns:
        (N, blocks, G, R, S) masks, 1 inside the images, and a scalar to be added to the losses. It
        is always 0: what it stands for is known in the backward pass alone.
    """
    return _MeasuredMasks.apply(logits.float(), grid.valid[:, None, None], share)


class _MeasuredMasks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, valid, share):
        ctx.save_for_backward(logits, valid)
        ctx.share = share
        return valid.to(logits.dtype).expand_as(logits).clone(), logits.new_zeros(())

    @staticmethod
    def backward(ctx, mask_gradient, loss_gradient):
        logits, valid = ctx.saved_tensors
        wanted = gain_signs(-mask_gradient, valid, ctx.share)
        short = (logits * wanted < MARGIN) & valid
        cells = valid.sum().clamp(min=1) * logits.shape[1] * logits.shape[2]
        # The gradient of the mean hinge; that of the loss carries weights and scales on. Each pass
        # that measures counts for those that do not.
        return -wanted * short * (EVERY * loss_gradient / cells), None, None


def gain_signs(gains: Tensor, valid: Tensor, share: float) -> Tensor:
    """1 for the cells with the largest gains, -1 for the others, 0 for those just between.

    Args:
        gains: (N, blocks, G, R, S).
        valid: (N, 1, 1, R, S) bool, cells that count.
        share: of the cells that count, of each block and group.

    Returns:
        As ``gains``.
    """
    n, blocks, groups, rows, columns = gains.shape
    counted = gains.masked_fill(~valid, -torch.inf)
    ranked = counted.permute(1, 2, 0, 3, 4).reshape(blocks, groups, -1).sort(descending=True)[0]
    last = (valid.sum() * share).round().long().clamp(max=ranked.shape[-1] - 1)
    limit = ranked.index_select(2, last[None]).view(1, blocks, groups, 1, 1)
    return torch.sign(counted - limit) * valid
