"""Training of a zoom policy on measured gains: regression, which serves every budget at once.

Beside it the policy gradient that it replaces, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dynbackbones.backbones.resnet import check_choice
from dynbackbones.errors import UserError
from dynbackbones.policy import (
    bound_probabilities,
    greedy_actions,
    policy_gradient_loss,
    sample_actions,
)
from dynbackbones.zoom.learned import LearnedPolicy

TRAININGS = ("regression", "reinforce")
Objective = Callable[[LearnedPolicy, torch.Generator], Tensor]

_BATCH = 256
_IMAGES = 16  # a batch of the policy gradient
_FOLDS = 2


def train_policy(
    described: Sequence[Tensor],
    gains: Sequence[Tensor],
    num_classes: int,
    settings: dict[str, Any],
    *,
    seed: int = 0,
    steps: int = 600,
    hidden: int = 64,
    training: str = "regression",
    rate: float = 0.25,
) -> tuple[LearnedPolicy, dict[str, float]]:
    """Fits gains with a Huber loss, or has selections drawn and rewarded by what they gain.

    The reward of a selection is a sum over its patches, so that its best selection at any price is
    a threshold on the gains themselves, and no reinforcement learning is needed (specified for
    EfficientObjectDetection, WACV 2020, which uses it).

    Args:
        described: (P, D) of `describe` for each image.
        gains: (P,) of each image.
        num_classes: of the model.
        settings: what the gains were measured with.
        seed: of initial weights, order and folds.
        steps: of AdamW.
        hidden: see `LearnedPolicy`.
        training: ``"regression"``; or ``"reinforce"``, for comparison: the policy gradient with the
            greedy selection as baseline. Its values are logits and no gains.
        rate: share of the patches for which it is rewarded: each costs what that share gains more
            than.

    Returns:
        The policy, which knows thresholds for rates from images that its halves had not seen, and
        figures: the correlation of gains and predictions on unseen images, and the share of the
        gain of the best patches that the predicted best ones have, at a quarter of all.

    Raises:
        ValueError: an option is out of range.
        UserError: there are fewer than four images, or no gain differs from another.
    """
    check_choice("training", training, TRAININGS)
    if not 0 < rate < 1:
        raise ValueError(f"rate must lie in (0, 1), got {rate}")
    if len(described) < 2 * _FOLDS:
        raise UserError(f"gains of {len(described)} images train no policy; measure more images")
    everything = torch.cat(list(gains)).float()
    if everything.min() == everything.max():
        raise UserError(
            f"every patch gains the same, {float(everything[0]):g}: a closer look changes nothing, "
            "so there is nothing to learn; see that images enter at their own resolution"
        )

    def fit(images: Sequence[int]) -> LearnedPolicy:
        x = torch.cat([described[index] for index in images]).float()
        if training == "regression":
            objective = _regression(x, torch.cat([gains[index] for index in images]).float())
        else:
            parts = [(described[index].float(), gains[index].float()) for index in images]
            objective = _policy_gradient(parts, _price(everything, rate))
        return _fit(x, objective, num_classes, settings, seed, steps, hidden)

    order = torch.randperm(len(described), generator=_generator(seed)).tolist()
    unseen = [torch.empty(0)] * len(described)
    for fold in range(_FOLDS):
        held_out = order[fold::_FOLDS]
        rest = [index for index in order if index not in set(held_out)]
        policy = fit(rest)
        for index in held_out:
            unseen[index] = policy.predict(described[index]).detach()
    policy = fit(order)
    predicted = torch.cat(unseen)
    policy.set_values(predicted)
    return policy.eval(), {
        "correlation": float(torch.corrcoef(torch.stack([predicted, everything]))[0, 1]),
        "share_of_best_gain": share_of_best_gain(predicted, everything, 0.25),
    }


def share_of_best_gain(values: Tensor, gains: Tensor, rate: float) -> float:
    """Gain of the patches with the largest values over that of the patches with the largest gains.

    Args:
        values, gains: (n,) of patches of all images.
        rate: share of them that is taken.
    """
    count = max(1, round(rate * len(gains)))
    taken = torch.sort(values, descending=True, stable=True).indices[:count]
    best = gains.sort(descending=True).values[:count].sum()
    return float(gains[taken].sum() / best) if best > 0 else float("nan")


def _regression(x: Tensor, y: Tensor) -> Objective:
    """The Huber loss of some patches of all images."""

    def loss(policy: LearnedPolicy, generator: torch.Generator) -> Tensor:
        picked = torch.randint(len(x), (min(_BATCH, len(x)),), generator=generator)
        return F.huber_loss(policy.predict(x[picked]), y[picked])

    return loss


def _policy_gradient(images: Sequence[tuple[Tensor, Tensor]], price: float) -> Objective:
    """Of selections in some images, whose reward is what their patches gain above a price."""

    def loss(policy: LearnedPolicy, generator: torch.Generator) -> Tensor:
        losses = []
        for index in torch.randint(len(images), (_IMAGES,), generator=generator).tolist():
            described, gains = images[index]
            chances = policy.predict(described).sigmoid()[None]
            bounded = bound_probabilities(chances)
            drawn = sample_actions(bounded, generator)
            advantage = (drawn.float() - greedy_actions(chances).float()) @ (gains - price)
            losses.append(policy_gradient_loss(bounded, drawn, advantage))
        return torch.stack(losses).mean()

    return loss


def _price(gains: Tensor, rate: float) -> float:
    """What a share of patches gains more than; a little where fewer gain anything."""
    price, positive = float(gains.quantile(1 - rate)), gains[gains > 0]
    return price if price > 0 or not len(positive) else 0.1 * float(positive.mean())


def _fit(
    x: Tensor,
    objective: Objective,
    num_classes: int,
    settings: dict[str, Any],
    seed: int,
    steps: int,
    hidden: int,
) -> LearnedPolicy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = LearnedPolicy(x.shape[1], num_classes, settings, hidden)
    policy.mean.copy_(x.mean(dim=0))
    policy.std.copy_(x.std(dim=0).clamp(min=1e-3 * float(x.abs().max()) + 1e-6))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = _generator(seed + 1)
    with torch.enable_grad():
        for _ in range(steps):
            loss = objective(policy, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return policy


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
