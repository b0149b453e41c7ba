"""What a policy is rewarded for."""

import math

from torch import Tensor

from dynbackbones.policy.actions import check_actions


def usage_reward(actions: Tensor, success: Tensor, gamma: float) -> Tensor:
    """Reward for doing little and still succeeding (BlockDrop, eq. 3).

    ``1 - (|u| / K)^2`` where the sample succeeded, else ``-gamma``.

    Args:
        actions: (N, K) of 0 and 1.
        success: (N,) bool, for a classifier whether the prediction is right.
        gamma: penalty of a failure, at least 0: the larger, the more actions are taken.

    Returns:
        (N,) float32.

    Raises:
        ValueError: ``gamma`` is negative or not finite, the shapes do not fit each other, the
            batch is empty, or ``actions`` holds other values than 0 and 1.
    """
    if not (gamma >= 0 and math.isfinite(gamma)):
        raise ValueError(f"gamma must be a finite number of at least 0, got {gamma}")
    if actions.dim() != 2 or 0 in actions.shape:
        raise ValueError(
            f"actions must be (samples, actions), neither of them none, got {tuple(actions.shape)}"
        )
    check_actions(actions, tuple(actions.shape))
    if success.shape != actions.shape[:1]:
        raise ValueError(
            f"success must have one value for each of the {len(actions)} samples, got shape "
            f"{tuple(success.shape)}"
        )
    usage = actions.float().mean(dim=1)
    return (1 - usage**2).where(success.bool(), usage.new_tensor(-float(gamma)))
