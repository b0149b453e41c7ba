"""Activation-rate losses."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from dynbackbones.backbones.sar.stage_output import StageOutput
from dynbackbones.layers.regions import activation_rates


def global_mean(value: Tensor) -> Tensor:
    """Mean over all processes, with the gradient of this process's share.

    With gradients averaged over processes (as DDP does), the sum of all shares is the gradient of
    the global mean. Without an initialised process group it returns its input.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    mean = value.detach().clone()
    dist.all_reduce(mean)
    mean /= dist.get_world_size()
    return value + (mean - value.detach())


def rates_of(output: StageOutput, kind: str = "sampled", by_group: bool = False) -> Tensor:
    """(blocks, N) activation rates of a stage in training, with their gradient.

    Args:
        output: of the stage.
        kind: of `LOSS_RATES`: ``"sampled"``, of the masks that the pass used, or ``"expected"``,
            without their noise: of the probabilities at temperature 1, whose gradient stays where
            that of the samples vanishes.
        by_group: each channel group counts for itself, as if it were a block.
    """
    masks = output.choice.sampled
    if kind == "expected":
        masks = output.choice.logits.float().sigmoid() * output.grid.valid[:, None, None]
    if by_group:
        masks = masks.flatten(1, 2).unsqueeze(2)
    return activation_rates(masks, output.grid.valid).transpose(0, 1)


def stages_rate_loss(
    outputs: Iterable[StageOutput], target_rate: float, kind: str, reduction: str
) -> Tensor:
    """The `activation_rate_loss` of all blocks of stages in training.

    Args:
        outputs: of the stages.
        target_rate: t, in [0, 1].
        kind: of the rates; see `rates_of`.
        reduction: ``"batch"``, ``"group"`` or ``"sample"``.
    """
    rates = [rates_of(output, kind, reduction == "group") for output in outputs]
    return activation_rate_loss(torch.cat(rates), target_rate, reduction)


def activation_rate_loss(rates: Tensor, target_rate: float, reduction: str = "batch") -> Tensor:
    """Squared distance of activation rates from their target.

    SAR, eq. 10 (``"batch"``: the mean rate over the global batch, for each block) and eq. 11
    (``"sample"``: the rate of each sample). ``"group"`` is ``"batch"`` for rates of groups.

    Args:
        rates: (blocks, N) activation rates in [0, 1].
        target_rate: t, in [0, 1].
        reduction: ``"batch"``, ``"group"`` or ``"sample"``.

    Returns:
        A scalar, the mean over blocks.

    Raises:
        ValueError: ``rates`` has another shape, or an option is out of range.
    """
    if rates.dim() != 2 or rates.numel() == 0:
        raise ValueError(f"rates must be (blocks, images) and not empty, got {tuple(rates.shape)}")
    if not 0 <= target_rate <= 1:
        raise ValueError(f"target_rate must lie in [0, 1], got {target_rate}")
    if reduction in ("batch", "group"):
        return (global_mean(rates.mean(dim=1)) - target_rate).square().mean()
    if reduction == "sample":
        return (rates - target_rate).square().mean()
    raise ValueError(f"reduction must be 'batch', 'group' or 'sample', got {reduction!r}")
