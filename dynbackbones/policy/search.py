"""The best fixed policy: the baseline that a learned one must beat."""

from collections.abc import Callable

import torch
from torch import Tensor


def greedy_search(evaluate: Callable[[Tensor], float], num_actions: int, count: int) -> Tensor:
    """Searches for one policy for all samples by switching actions off one after the other.

    Starts with all actions and each time gives up the one without which the score is best. Asks
    for about ``(K^2 - count^2) / 2`` scores. The result is good, not necessarily the best.

    Args:
        evaluate: from actions, (K,) bool, to a score such as the accuracy on a calibration set;
            the higher, the better.
        num_actions: K.
        count: how many actions to keep, in 0..K.

    Returns:
        (K,) bool. Of actions with equal scores the last in order is given up.

    Raises:
        ValueError: ``num_actions`` or ``count`` is out of range, or a score is not a number.
    """
    if num_actions < 1:
        raise ValueError(f"num_actions must be at least 1, got {num_actions}")
    if not 0 <= count <= num_actions:
        raise ValueError(f"count must lie in 0..{num_actions}, got {count}")
    actions = torch.ones(num_actions, dtype=torch.bool)
    for _ in range(num_actions - count):
        scores = {
            index: _score(evaluate, _without(actions, index))
            for index in reversed(actions.nonzero().flatten().tolist())
        }
        actions = _without(actions, max(scores, key=scores.__getitem__))
    return actions


def remembered(evaluate: Callable[[Tensor], float]) -> Callable[[Tensor], float]:
    """Asks for each score once: searches for several counts begin with the same questions."""
    scores: dict[tuple[bool, ...], float] = {}

    def score(actions: Tensor) -> float:
        key = tuple(actions.tolist())
        if key not in scores:
            scores[key] = evaluate(actions)
        return scores[key]

    return score


def _without(actions: Tensor, index: int) -> Tensor:
    actions = actions.clone()
    actions[index] = False
    return actions


def _score(evaluate: Callable[[Tensor], float], actions: Tensor) -> float:
    score = float(evaluate(actions))
    if score != score:
        raise ValueError(f"evaluate must return a number, got {score}")
    return score
