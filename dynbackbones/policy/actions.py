"""Bernoulli actions: N samples with K independent binary decisions each.

Wu et al., BlockDrop: Dynamic Inference Paths in Residual Networks (CVPR 2018), section 3. Nothing
here knows what an action switches on or off. Probabilities are those of action 1, "run".
"""

import torch
from torch import Tensor

from dynbackbones.errors import UserError


def bound_probabilities(probabilities: Tensor, alpha: float = 0.8) -> Tensor:
    """Moves probabilities into [1 - alpha, alpha], so that every action keeps being explored.

    ``s' = alpha * s + (1 - alpha) * (1 - s)`` (BlockDrop, section 3.3).

    Args:
        probabilities: (N, K).
        alpha: largest probability, in (0.5, 1]; 1 changes nothing.

    Raises:
        ValueError: ``alpha`` is out of range.
    """
    if not 0.5 < alpha <= 1:
        raise ValueError(f"alpha must lie in (0.5, 1], got {alpha}")
    return alpha * probabilities + (1 - alpha) * (1 - probabilities)


def greedy_actions(probabilities: Tensor, threshold: float | Tensor = 0.5) -> Tensor:
    """The actions that are more probable than ``threshold``: (N, K) to (N, K) bool.

    Where a probability is NaN the action is taken: the block runs.
    """
    return ~(probabilities.detach() <= threshold)


def sample_actions(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws every action on its own: (N, K) probabilities to (N, K) bool.

    Args:
        probabilities: (N, K), as `bound_probabilities` returns them.
        generator: of the device of ``probabilities``; None for torch's own.

    Raises:
        UserError: probabilities are not finite.
    """
    try:
        return torch.bernoulli(probabilities.detach(), generator=generator).bool()
    except RuntimeError:
        if probabilities.isfinite().all():
            raise
        raise UserError(
            "the policy's probabilities are not finite: images hold NaN or infinity, or the "
            "training diverged; check the images, or lower the learning rate"
        ) from None


def policy_gradient_loss(
    probabilities: Tensor, actions: Tensor, advantage: Tensor, learned: Tensor | None = None
) -> Tensor:
    """Loss whose gradient is the policy gradient (BlockDrop, eq. 6).

    The mean over the samples of ``-advantage * sum of log p(action)``.

    Args:
        probabilities: (N, K), what the actions were drawn from: bounded, if they were.
        actions: (N, K) of 0 and 1.
        advantage: (N,) reward of the actions minus that of the greedy actions (self-critical
            baseline); no gradient flows through it.
        learned: (K,) bool, the actions that count; None for all. Actions that were forced on say
            nothing about the policy.

    Returns:
        A scalar.

    Raises:
        ValueError: the shapes do not fit each other, the batch is empty, or ``actions`` holds
            other values than 0 and 1.
    """
    _check_batch(probabilities)
    check_actions(actions, tuple(probabilities.shape))
    if advantage.shape != probabilities.shape[:1]:
        raise ValueError(
            f"advantage must have one value for each of the {len(probabilities)} samples, got "
            f"shape {tuple(advantage.shape)}"
        )
    taken = torch.where(actions.bool(), probabilities, 1 - probabilities)
    logs = _away_from_zero(taken).log()
    if learned is not None:
        if learned.shape != probabilities.shape[1:]:
            raise ValueError(
                f"learned must have one value for each of the {probabilities.shape[1]} actions, "
                f"got shape {tuple(learned.shape)}"
            )
        logs = logs * learned.to(logs)
    # One return for all decisions of a sample, so that they are one step.
    return score_function_loss(logs.sum(dim=1, keepdim=True), advantage[:, None])


def score_function_loss(
    log_probs: Tensor, advantage: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Loss whose gradient is the policy gradient of actions of any distribution (REINFORCE).

    The mean over the samples of ``-sum over the steps of advantage * log p(action)``.

    Args:
        log_probs: (N, T) logarithms of the probability, or density, of what was drawn in each
            step, with gradients.
        advantage: (N, T), what followed a step minus what was expected; no gradient flows through
            it.
        mask: (N, T) bool, the steps that took place; None for all. What the others hold counts
            nowhere, NaN included.

    Returns:
        A scalar.

    Raises:
        ValueError: the shapes do not fit each other, or the batch is empty.
    """
    if log_probs.dim() != 2 or 0 in log_probs.shape:
        raise ValueError(
            f"log_probs must be (samples, steps), neither of them none, got "
            f"{tuple(log_probs.shape)}"
        )
    for name, values in (("advantage", advantage), ("mask", mask)):
        if values is not None and values.shape != log_probs.shape:
            raise ValueError(
                f"{name} must be (samples, steps) = {tuple(log_probs.shape)}, got "
                f"{tuple(values.shape)}"
            )
    advantage = advantage.detach()
    if mask is not None:
        log_probs, advantage = (torch.where(mask, x, 0.0) for x in (log_probs, advantage))
    return -(advantage * log_probs).sum(dim=1).mean()


def policy_entropy(probabilities: Tensor) -> Tensor:
    """Entropy of each sample's policy in nats: (N, K) probabilities to (N,), differentiable."""
    off = 1 - probabilities
    terms = (p * _away_from_zero(p).log() for p in (probabilities, off))
    return -sum(terms).sum(dim=1)


def check_actions(actions: Tensor, shape: tuple[int, int], name: str = "actions") -> None:
    """Makes sure that actions have the shape (N, K) and hold only 0 and 1.

    Raises:
        ValueError: they do not; ``name`` is in the message.
    """
    if tuple(actions.shape) != shape:
        raise ValueError(f"{name} must be (samples, actions) = {shape}, got {tuple(actions.shape)}")
    if not is_binary(actions):
        raise ValueError(f"{name} must contain only 0 and 1")


def is_binary(values: Tensor) -> bool:
    """Whether a tensor is boolean or holds only 0 and 1."""
    return values.dtype == torch.bool or bool(((values == 0) | (values == 1)).all())


def _check_batch(probabilities: Tensor) -> None:
    if probabilities.dim() != 2 or 0 in probabilities.shape:
        raise ValueError(
            f"probabilities must be (samples, actions), neither of them none, got "
            f"{tuple(probabilities.shape)}"
        )


def _away_from_zero(probabilities: Tensor) -> Tensor:
    # A saturated sigmoid is exactly 0 or 1, and its logarithm would end the training.
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).eps)
