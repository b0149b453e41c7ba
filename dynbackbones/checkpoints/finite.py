"""Weights that are numbers: neither infinite nor NaN."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dynbackbones.errors import UserError


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold an infinity or NaN."""
    return [
        name
        for name, value in state.items()
        if isinstance(value, Tensor) and value.is_floating_point() and not _finite(value.detach())
    ]


def _finite(value: Tensor) -> bool:
    # torch counts no floats of 8 bits.
    return bool(torch.isfinite(value.float() if value.itemsize == 1 else value).all())


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Makes sure that weights are numbers.

    Args:
        state: the weights.
        source: names where they come from.

    Raises:
        UserError: some are not; names how many and the first.
    """
    found = not_finite(state)
    if found:
        raise UserError(
            f"{source} is of a training that diverged: {len(found)} of its {len(state)} tensors "
            f"are not finite, the first {found[0]}; use an earlier checkpoint"
        )
