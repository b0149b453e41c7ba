"""Curriculum: the last actions are learned first, the others stay on (BlockDrop, algorithm 1)."""

import torch
from torch import Tensor


def learned_actions(num_actions: int, count: int) -> Tensor:
    """The actions that are learned: the last ``count``; all where there are not so many.

    Args:
        num_actions: K.
        count: at least 0; in the paper the number of the epoch, from 1.

    Returns:
        (K,) bool.

    Raises:
        ValueError: ``num_actions`` is not positive or ``count`` negative.
    """
    if num_actions < 1:
        raise ValueError(f"num_actions must be at least 1, got {num_actions}")
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    return torch.arange(num_actions) >= num_actions - count


def scheduled_count(num_actions: int, progress: float, share: float = 1.0) -> int:
    """How many actions are learned after a share of training, for a training of any length.

    Rises from 1 to ``num_actions`` in equal steps; in the paper there is a step for each epoch.

    Args:
        num_actions: K.
        progress: share of training done, in [0, 1].
        share: of training that the rise takes, in (0, 1].

    Raises:
        ValueError: ``progress`` or ``share`` is out of range.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress must lie in [0, 1], got {progress}")
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    return min(1 + int(progress / share * num_actions + 1e-9), num_actions)


def force_on(actions: Tensor, learned: Tensor) -> Tensor:
    """Actions (N, K) bool with those that are not ``learned`` (K,) switched on."""
    return actions | ~learned.to(actions.device)
