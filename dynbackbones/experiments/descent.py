"""Iterations of small trainings: a step of the optimiser, and what was logged in the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def descend(
    losses: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    *,
    clipped: Iterable[nn.Parameter] = (),
    max_norm: float = 5.0,
) -> dict[str, float]:
    """One step down the sum of the losses; returns what there is to log.

    Args:
        losses: and what is to be logged beside them (names without "loss").
        optimizer, scheduler: which take a step each.
        clipped: parameters whose gradients' norm is kept within ``max_norm``.
        max_norm: see there.
    """
    optimizer.zero_grad()
    sum(value for name, value in losses.items() if "loss" in name).backward()
    nn.utils.clip_grad_norm_(clipped, max_norm)
    optimizer.step()
    scheduler.step()
    return {name: float(value.detach()) for name, value in losses.items()}


def mean_of_last_tenth(logged: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of what `descend` returned in the last tenth of the iterations."""
    last = logged[-max(1, len(logged) // 10) :]
    return {name: sum(entry[name] for entry in last) / len(last) for name in last[0]}
