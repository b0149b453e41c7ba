"""Straight-through Gumbel-softmax over two choices."""

import torch
from torch import Tensor


def gumbel_select(logits: Tensor, temperature: float) -> Tensor:
    """Samples binary decisions, hard in the forward pass and soft in the backward pass.

    Jang et al., Categorical Reparameterization with Gumbel-Softmax (2017); SAR, eq. 8 and 9. Noise
    and softmax are float32 whatever the input, since low temperatures overflow half precision.
    The forward value is exactly 0 or 1.

    Args:
        logits: (..., 2), the logits of "skip" and "select".
        temperature: of the softmax in the backward pass, > 0.

    Returns:
        (...) float32, 1 where "select" was sampled.

    Raises:
        ValueError: the last axis is not 2, or the temperature is not positive.
    """
    if logits.shape[-1] != 2:
        raise ValueError(f"logits must have two entries in the last axis, got {logits.shape}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    logits = logits.float()
    # The difference of two Gumbel variables is logistic, but sampling both keeps the paper's form.
    noise = -torch.empty_like(logits).exponential_().log()
    soft = ((logits + noise) / temperature).softmax(dim=-1)[..., 1]
    hard = (soft > 0.5).to(soft.dtype)
    return hard + (soft - soft.detach())
