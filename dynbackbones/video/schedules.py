"""On which frames of a video a model runs."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import numpy as np

from dynbackbones.video.pairs import Pair

_STEPS = 24
_CLOSE = 0.005  # to a rate


class Schedule(ABC):
    """Says of each frame but a video's first whether it becomes a key frame.

    A schedule has no state: one may serve several streams.
    """

    @abstractmethod
    def wants_key(self, pair: Pair) -> bool:
        """Whether the model should run on the frame, given the last key."""

    def meet(self, rate: float, rate_of: Callable[[], float]) -> None:
        """Changes itself so that the share of key frames becomes ``rate``.

        Args:
            rate: in (0, 1].
            rate_of: the share that it has now, on the user's frames.

        Raises:
            ValueError: it has nothing to change.
        """
        raise ValueError(f"{self!r} has nothing that changes its share of key frames")


class Every(Schedule):
    """Every k-th frame, counted from the last key.

    Args:
        k: at least 1, which is the model itself.

    Example:
        >>> import dynbackbones
        >>> dynbackbones.video.Every(5)
        Every(5)
    """

    def __init__(self, k: int) -> None:
        _check_at_least("k", k, 1)
        self.k = k

    def wants_key(self, pair: Pair) -> bool:
        return pair.age >= self.k

    def meet(self, rate: float, rate_of: Callable[[], float]) -> None:
        self.k = max(1, round(1 / rate))

    def __repr__(self) -> str:
        return f"Every({self.k})"


class Random(Schedule):
    """Each frame with the same probability, whatever it shows: what others should beat.

    Args:
        rate: probability, in [0, 1].
        seed: of the draws, which depend on it and on the number of the frame alone.

    Example:
        >>> import dynbackbones
        >>> dynbackbones.video.Random(0.2)
        Random(0.2)
    """

    def __init__(self, rate: float, seed: int = 0) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must lie in [0, 1], got {rate}")
        _check_at_least("seed", seed, 0)
        self.rate, self.seed = rate, seed

    def wants_key(self, pair: Pair) -> bool:
        return bool(np.random.default_rng([self.seed, pair.index]).random() < self.rate)

    def meet(self, rate: float, rate_of: Callable[[], float]) -> None:
        self.rate = rate

    def __repr__(self) -> str:
        return f"Random({self.rate:g})"


class Keys(Schedule):
    """Frames that are named, such as what an oracle chose.

    Args:
        indices: of the key frames of a video, from 0.

    Example:
        >>> import dynbackbones
        >>> dynbackbones.video.Keys([0, 7, 9])
        Keys([0, 7, 9])
    """

    def __init__(self, indices: Iterable[int]) -> None:
        self.indices = frozenset(int(index) for index in indices)
        if min(self.indices, default=0) < 0:
            raise ValueError(f"indices must not be negative, got {min(self.indices)}")

    def wants_key(self, pair: Pair) -> bool:
        return pair.index in self.indices

    def __repr__(self) -> str:
        return f"Keys({sorted(self.indices)})"


class Threshold(Schedule):
    """A schedule that compares a value of the frame with a threshold.

    Attributes:
        threshold: which `dynbackbones.calibrate` moves.
        rises: whether a higher one means more key frames.
    """

    threshold: float
    rises = False

    def meet(self, rate: float, rate_of: Callable[[], float]) -> None:
        """Finds the threshold by bisection, and keeps the best that was met on the way.

        What is a key depends on the keys before it, so the rate is not monotone in the threshold.
        """

        def rate_at(threshold: float) -> float:
            self.threshold = threshold
            return rate_of()

        low, high = self.bounds()
        ends = (high, low) if self.rises else (low, high)
        self.threshold = closest(rate_at, rate, *ends, steps=_STEPS, near=_CLOSE)

    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Thresholds between which the rate goes from one end to the other."""


class Difference(Threshold):
    """A frame that differs from its key by more than a threshold.

    The difference is to the key and not to the frame before, so that slow changes add up.

    Args:
        threshold: mean absolute difference in grey at 60 x 45, in [0, 1].

    Example:
        >>> import dynbackbones
        >>> dynbackbones.video.Difference(0.05)
        Difference(0.05)
    """

    def __init__(self, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
        self.threshold = threshold

    def wants_key(self, pair: Pair) -> bool:
        return pair.difference > self.threshold

    def bounds(self) -> tuple[float, float]:
        return 0.0, 0.5

    def __repr__(self) -> str:
        return f"Difference({self.threshold:.3g})"


def closest(
    value_at: Callable[[float], float],
    target: float,
    most: float,
    least: float,
    *,
    steps: int,
    near: float = 0.0,
) -> float:
    """Where a value came closest to a target in a bisection, though it need not be monotone.

    Args:
        value_at: of a place.
        target: to reach.
        most, least: places where the value is largest and smallest.
        steps: places that are looked at, at most.
        near: distance from the target that is good enough.
    """
    met: dict[float, float] = {}
    for _ in range(steps):
        middle = (most + least) / 2
        met[middle] = value_at(middle)
        if abs(met[middle] - target) <= near:
            break
        most, least = (middle, least) if met[middle] > target else (most, middle)
    return min(met, key=lambda place: abs(met[place] - target))


def meet_rate(schedule: Schedule, rate: float, rate_of: Callable[[], float]) -> float:
    """Has a schedule meet a share of key frames; warns where it misses it by over 0.01.

    Args:
        schedule: changed in place.
        rate: in (0, 1].
        rate_of: the share that it has, on the user's frames.

    Returns:
        The share that was reached.

    Raises:
        ValueError: ``rate`` is out of range, or the schedule has nothing to change.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"target_rate must lie in (0, 1], got {rate}")
    schedule.meet(rate, rate_of)
    reached = rate_of()
    if abs(reached - rate) > 0.01:
        warnings.warn(
            f"the share of key frames is {reached:.3f} instead of {rate:g} with {schedule!r}: "
            "first frames, cuts, gaps and max_age make keys of their own, and short clips have "
            "coarse shares; give a longer clip, or another schedule",
            stacklevel=4,
        )
    return reached


def _check_at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
