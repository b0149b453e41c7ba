"""What AdaFrame learns from: rewards of its steps, what follows of them, and the losses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dynbackbones.policy import (
    discounted_returns,
    margin_reward,
    probability_gain_reward,
    probability_reward,
    score_function_loss,
)
from dynbackbones.video.adaframe_run import AdaFrameRun

REWARDS = {
    "margin": margin_reward,
    "probability": probability_reward,
    "probability_gain": probability_gain_reward,
}
SUPERVISED = ("last", "all")


def losses(
    run: AdaFrameRun,
    labels: Tensor,
    *,
    supervise: str,
    reward: str,
    discount: float,
    utility_weight: float,
    selection_weight: float,
) -> dict[str, Tensor]:
    """Losses of a run in training mode, and what to log beside them (names without "loss").

    Step t draws the location of step t + 1, so that its return, which is also what its utility is
    to predict, begins with the reward of step t + 1.

    Args:
        run: of N videos in K steps.
        labels: (N,) classes.
        supervise, reward, discount, utility_weight, selection_weight: see `AdaFrame`.
    """
    real = run.real
    rewards = REWARDS[reward](run.scores, labels).where(real, 0.0)
    after = F.pad(discounted_returns(rewards, discount)[:, 1:], (0, 1))
    errors = (run.utilities - after).where(real, 0.0)
    found = {
        "loss_classification": _classification(run, labels, supervise),
        "loss_utility": utility_weight * (0.5 * errors.square()).sum() / real.sum(),
    }
    if run.log_probs.shape[1]:
        loss = score_function_loss(run.log_probs, -errors[:, :-1], real[:, 1:])
        found["loss_selection"] = selection_weight * loss
    return {**found, **_figures(run, labels, rewards, after)}


def _classification(run: AdaFrameRun, labels: Tensor, supervise: str) -> Tensor:
    if supervise == "last":
        return F.cross_entropy(run.answers(), labels)
    each = F.cross_entropy(
        run.logits.flatten(0, 1),
        labels.repeat_interleave(run.logits.shape[1]),
        reduction="none",
    )
    return each[run.real.flatten()].mean()


def _figures(
    run: AdaFrameRun, labels: Tensor, rewards: Tensor, after: Tensor
) -> dict[str, Tensor]:
    """Among them how well utilities predict, and whether locations differ between videos."""
    targets, guesses = after[run.real], run.utilities.detach()[run.real]
    return {
        "accuracy": 100 * (run.answers().argmax(dim=1) == labels).float().mean(),
        "reward": rewards.sum(dim=1).mean(),
        "explained_variance": 1 - (targets - guesses).var(correction=0)
        / targets.var(correction=0).clamp(min=1e-12),
        "location_spread": run.locations[:, -1].detach().std(correction=0),
        "repeated_frames": 1 - (run.distinct().to(run.taken) / run.taken).mean(),
    }  # fmt: skip
