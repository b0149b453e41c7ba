"""What a policy is rewarded for."""

import math

import torch
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


def margin_reward(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Reward of each step that makes a classifier surer than it ever was (AdaFrame, eq. 3.3).

    ``r_t = max(0, m_t - max over t' < t of m_t')`` with the margin ``m_t = p(true) - max p(other)``
    in [-1, 1]. The first step has none, so that a sample's rewards sum to ``max m_t - m_1``.

    Args:
        probabilities: (N, T, C) after each step, at least two classes.
        labels: (N,) classes.

    Returns:
        (N, T), at least 0 and without gradient.

    Raises:
        ValueError: the shapes do not fit each other, or a label is no class.
    """
    true, other = _true_and_other(probabilities, labels)
    best = (true - other).cummax(dim=1).values
    return _with_first(best[:, 1:] - best[:, :-1])


def probability_reward(probabilities: Tensor, labels: Tensor) -> Tensor:
    """``r_t = p_t(true)``, of AdaFrame's table 3.3; arguments as of `margin_reward`."""
    return _with_first(_true_and_other(probabilities, labels)[0][:, 1:])


def probability_gain_reward(probabilities: Tensor, labels: Tensor) -> Tensor:
    """``r_t = p_t(true) - p_{t-1}(true)``, of AdaFrame's table 3.3; see `margin_reward`."""
    true = _true_and_other(probabilities, labels)[0]
    return _with_first(true[:, 1:] - true[:, :-1])


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """What follows each step: ``R_t = sum over i >= 0 of discount^i * r_{t+i}``.

    Args:
        rewards: (N, T), of a step that did not take place 0.
        discount: of each further step, in [0, 1].

    Returns:
        (N, T).

    Raises:
        ValueError: ``discount`` is out of range, or the rewards have another shape.
    """
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must lie in [0, 1], got {discount}")
    if rewards.dim() != 2:
        raise ValueError(f"rewards must be (samples, steps), got {tuple(rewards.shape)}")
    returns, after = [], torch.zeros_like(rewards.sum(dim=1))
    for reward in reversed(rewards.unbind(dim=1)):
        after = reward + discount * after
        returns.append(after)
    return torch.stack(returns[::-1], dim=1) if returns else rewards.clone()


def _true_and_other(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (N, T) of the true class, and the largest of any other."""
    shape = tuple(probabilities.shape)
    if len(shape) != 3 or 0 in shape or shape[2] < 2:
        raise ValueError(
            f"probabilities must be (samples, steps, classes) of at least two classes, got {shape}"
        )
    if labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"labels must have one class for each of the {len(probabilities)} samples, got shape "
            f"{tuple(labels.shape)}"
        )
    if bool(((labels < 0) | (labels >= shape[2])).any()):
        raise ValueError(f"labels must be classes in 0..{shape[2] - 1}, got {labels.tolist()}")
    probabilities = probabilities.detach()
    index = labels.long()[:, None, None].expand(-1, shape[1], 1)
    true = probabilities.gather(2, index).squeeze(2)
    other = probabilities.scatter(2, index, -torch.inf).amax(dim=2)
    return true, other


def _with_first(rewards: Tensor) -> Tensor:
    """Rewards (N, T - 1) of the steps after the first, which has none."""
    return torch.cat([rewards.new_zeros(len(rewards), 1), rewards], dim=1)
