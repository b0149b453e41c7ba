"""Which frames would have been the best ones to run a model on, and how much there is to win."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_keys(errors: np.ndarray, num_keys: int) -> list[int]:
    """The key frames with the least sum of errors: an oracle, for reports only.

    By dynamic programming over the frames; a frame shows what its last key says.

    Args:
        errors: (T, ages), error of frame t if its key is ``age`` frames before it; what is beyond
            its columns, or infinite, is not allowed.
        num_keys: at least 1.

    Returns:
        Their indices, the first of them 0; fewer than ``num_keys`` where more would not help.

    Raises:
        ValueError: no choice of so few keys is allowed, or ``num_keys`` is below 1.

    Example:
        >>> import numpy as np
        >>> from dynbackbones.analysis.frame_schedules import best_keys
        >>> errors = np.array([[0, 9, 9, 9], [0, 1, 9, 9], [0, 8, 8, 9], [0, 1, 9, 9]])
        >>> best_keys(errors, 2)
        [0, 2]
    """
    frames, ages = errors.shape
    if num_keys < 1:
        raise ValueError(f"num_keys must be at least 1, got {num_keys}")
    spans = _spans(errors)
    num_keys = min(num_keys, frames)
    best = np.full((num_keys + 1, frames + 1), np.inf)
    origin = np.zeros((num_keys + 1, frames + 1), int)
    best[0, 0] = 0
    for count in range(1, num_keys + 1):
        for end in range(1, frames + 1):
            first = max(0, end - ages)
            starts = np.arange(first, end)
            totals = best[count - 1, first:end] + spans[starts, end - starts]
            least = int(totals.argmin())
            best[count, end], origin[count, end] = totals[least], first + least
    count = int(best[:, frames].argmin())
    if not np.isfinite(best[count, frames]):
        raise ValueError(f"{num_keys} keys are too few for {frames} frames with {ages} ages each")
    keys, end = [], frames
    for left in range(count, 0, -1):
        end = int(origin[left, end])
        keys.append(end)
    return keys[::-1]


def _spans(errors: np.ndarray) -> np.ndarray:
    """(T, ages + 1): sum of errors of the first n frames from a key on."""
    frames, ages = errors.shape
    spans = np.full((frames, ages + 1), np.inf)
    spans[:, 0] = 0
    for length in range(1, ages + 1):
        starts = np.arange(frames - length + 1)
        spans[starts, length] = (
            spans[starts, length - 1] + errors[starts + length - 1, length - 1]
        )
    return spans


def ages_of(keys: Sequence[int], frames: int) -> np.ndarray:
    """(T,) frames since the last key.

    Args:
        keys: their indices, 0 among them.
        frames: T.

    Raises:
        ValueError: the first frame is no key.
    """
    marks = np.zeros(frames, bool)
    marks[[key for key in keys if key < frames]] = True
    if not marks[0]:
        raise ValueError("the first frame must be a key: nothing is known before it")
    index = np.arange(frames)
    return index - np.maximum.accumulate(np.where(marks, index, 0))


def headroom_captured(schedule: float, uniform: float, oracle: float) -> float | None:
    """Share of what the oracle wins over every k-th frame that a schedule wins.

    Args:
        schedule, uniform, oracle: what they reach, the higher the better.

    Returns:
        1 is the oracle; None where it wins less than nothing to speak of (0.1).
    """
    room = oracle - uniform
    return None if room < 0.1 else (schedule - uniform) / room
