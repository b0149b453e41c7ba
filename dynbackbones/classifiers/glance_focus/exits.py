"""When an image is sure enough to leave: thresholds on confidences that meet a budget.

Nothing here knows a network; what runs in steps of rising cost and knows how sure it is can use it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_TURNS = 60
# Finite, as all weights are that are saved.
NEVER, ALWAYS = 2.0, 0.0
"""Thresholds that no confidence reaches, and that every one does."""


def no_exits(steps: int) -> Tensor:
    """(T,) thresholds with which every image takes all steps."""
    return torch.tensor([NEVER] * (steps - 1) + [ALWAYS])


def checked_exits(exits: Sequence[float], steps: int) -> Tensor:
    """(T,) thresholds from those that a user gives.

    Args:
        exits: of all steps but the last, which nothing outlasts; or of all.
        steps: T.

    Raises:
        ValueError: there are others than that, or one is not a number.
    """
    values = [float(value) for value in exits]
    if len(values) not in (steps - 1, steps):
        raise ValueError(
            f"exits must be {steps - 1} thresholds, one for each of the {steps} steps but the "
            f"last, got {len(values)}: {values}"
        )
    if any(math.isnan(value) for value in values):
        raise ValueError(f"exits must be numbers, got {values}; infinity is for no exit")
    return torch.tensor([*values[: steps - 1], ALWAYS]).clamp(ALWAYS, NEVER)


def geometric_shares(log_q: float, steps: int) -> Tensor:
    """(T,) shares of the images that leave at each step, each q times those of the one before."""
    return (log_q * torch.arange(steps, dtype=torch.float64)).softmax(dim=0)


def shares_for(costs: Sequence[float], budget: float) -> Tensor:
    """The geometric shares that cost a budget on average.

    Args:
        costs: (T,) what an image costs that leaves at each step, rising.
        budget: of an image on average, in the same unit.

    Raises:
        ValueError: the costs do not rise, or the budget lies outside of them.
    """
    every = torch.as_tensor(costs, dtype=torch.float64)
    if len(every) < 1 or not bool((every[1:] > every[:-1]).all()):
        raise ValueError(f"costs must rise from step to step, got {every.tolist()}")
    first, last = float(every[0]), float(every[-1])
    if not first * (1 - 1e-6) <= budget <= last * (1 + 1e-6):
        raise ValueError(
            f"budget must lie between what the first step costs and what all cost, {first:.6g} and "
            f"{last:.6g}, got {budget:.6g}"
        )
    low, high = -40.0, 40.0
    for _ in range(_TURNS):
        middle = (low + high) / 2
        cost = float(geometric_shares(middle, len(every)) @ every)
        low, high = (middle, high) if cost < budget else (low, middle)
    return geometric_shares((low + high) / 2, len(every))


def exits_for(confidences: Tensor, shares: Tensor) -> Tensor:
    """The thresholds with which these shares of the images leave at each step, the surest first.

    Args:
        confidences: (N, T) of images that took all steps.
        shares: (T,) that add up to 1.

    Returns:
        (T,) float32; the last is 0, and 2 where none leave. Otherwise it lies between the
        confidence of the last that leaves and that of the next.
    """
    count, steps = confidences.shape
    confidences = confidences.detach().double().cpu()
    # Rounded in sum, so that few images meet a budget too; the authors round each step down.
    gone = (count * shares.cumsum(dim=0)).round().long().diff(prepend=torch.zeros(1).long())
    here = torch.ones(count, dtype=torch.bool)
    exits = no_exits(steps)
    for step in range(steps - 1):
        order = confidences[here, step].sort(descending=True).values
        leaving = min(int(gone[step]), len(order))
        if leaving:
            following = order[leaving] if leaving < len(order) else order[-1]
            exits[step] = float((order[leaving - 1] + following) / 2)
            here &= ~(confidences[:, step] >= float(exits[step]))
    return exits


def steps_taken(confidences: Tensor, exits: Tensor) -> Tensor:
    """(N,) how many steps each image takes, from (N, T) confidences and (T,) thresholds."""
    leaves = confidences.detach().cpu() >= exits.cpu()
    leaves[:, -1] = True
    return 1 + leaves.int().argmax(dim=1)


def budget_exits(confidences: Tensor, costs: Sequence[float], budget: float) -> Tensor:
    """The thresholds whose mean cost meets a budget, from confidences alone.

    Shares of the images that leave are geometric (the authors' code); labels are not needed.

    Args:
        confidences: (N, T) of images that took all steps.
        costs: (T,) of an image that leaves at each step.
        budget: of an image on average, in the same unit.

    Raises:
        ValueError: the budget cannot be met, or there are no images.

    Example:
        >>> import torch
        >>> from dynbackbones.classifiers.glance_focus.exits import budget_exits, steps_taken
        >>> confidences = torch.linspace(0.3, 1, 300).view(-1, 3)
        >>> exits = budget_exits(confidences, [1.0, 2.0, 3.0], budget=1.5)
        >>> steps_taken(confidences, exits).float().mean()
        tensor(1.5000)
    """
    if not len(confidences):
        raise ValueError("images must not be empty: calibration needs some typical images")
    return exits_for(confidences, shares_for(costs, budget))


def searched_exits(
    confidences: Tensor, right: Tensor, costs: Sequence[float], budget: float, levels: int = 12
) -> Tensor:
    """The thresholds that are right most often within a budget, from labelled images.

    Starts from `budget_exits` and changes two thresholds at a time, as one alone cannot move
    computation from one step to another, until nothing is won.

    Args:
        confidences: (N, T) of images that took all steps, others than were trained with.
        right: (N, T) bool, whether the prediction after each step is.
        costs, budget: see `budget_exits`.
        levels: thresholds tried at each step, quantiles of its confidences.

    Raises:
        ValueError: the budget cannot be met, or there are no images.
    """
    exits = budget_exits(confidences, costs, budget)
    known, each = confidences.detach().float().cpu(), torch.as_tensor(costs, dtype=torch.float64)
    right, steps = right.cpu().double(), known.shape[1]
    tried = known.quantile(torch.linspace(0, 1, levels), dim=0)
    tried = torch.cat([tried, torch.full((1, steps), NEVER)])

    def worth(some: Tensor) -> tuple[bool, float, float]:
        """Whether it is within the budget, the more often right the better, then the cheaper."""
        taken = steps_taken(known, some)[:, None] - 1
        cost = float(each[taken].mean())
        fits = cost <= budget * (1 + 1e-6)
        return fits, float(right.gather(1, taken).mean()) if fits else -cost, -cost

    best, before = worth(exits), None
    while best != before:
        before = best
        for one, two in itertools.combinations(range(steps - 1), 2) if steps > 2 else [(0, 0)]:
            for first, second in itertools.product(tried[:, one], tried[:, two]):
                other = exits.clone()
                other[one], other[two] = first, second
                value = worth(other)
                if value > best:
                    best, exits = value, other
    return exits
