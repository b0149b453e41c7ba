"""Keeps the rate in evaluation at the target while a network is trained."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dynbackbones.backbones.sar.loss import global_mean
from dynbackbones.backbones.sar.stage_output import StageOutput
from dynbackbones.layers.regions import activation_rates

STEP = 0.2
"""Of a threshold, in standard deviations of the logits for a rate that is off by 1."""


@torch.no_grad()
def follow_target(thresholds: Sequence[Tensor], output: StageOutput, target: float) -> None:
    """Moves the thresholds of a stage's selectors towards those with which they meet a rate.

    A sampled rate and the one without noise differ: what is trained to one half may refine two
    thirds in evaluation. A step towards the quantile of a batch's logits in each training pass
    (Robbins and Monro, 1951) makes them agree, and needs no pass over the data at the end.

    Args:
        thresholds: one for each selector, changed in place.
        output: of a training pass.
        target: the rate to meet.
    """
    logits, valid = output.choice.logits.detach().float(), output.grid.valid
    limits = torch.stack(list(thresholds)).view(-1, 1, 1, 1)
    rates = activation_rates((logits > limits) & valid[:, None, None], valid).mean(dim=0)
    own = logits.transpose(0, 1).flatten(1)
    spreads = own.std(dim=1) if own.shape[1] > 1 else torch.zeros_like(rates)
    # All selectors of a stage wait for other processes once.
    rates, spreads = global_mean(torch.stack([rates, spreads]))
    for threshold, step in zip(thresholds, STEP * spreads * (rates - target), strict=True):
        threshold += step
