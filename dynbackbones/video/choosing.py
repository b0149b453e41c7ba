"""Which frames become keys: the schedule's wishes, and what forces a key whatever it wishes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import Tensor

from dynbackbones.video.pairs import Pair, Seen, difference
from dynbackbones.video.schedules import Schedule


@dataclass(frozen=True)
class Limits:
    """What forces a key.

    Attributes:
        max_age: frames that a result may be shown for after its own; None for any number.
        max_gap: seconds between two frames beyond which nothing is propagated; None for any.
        cut: mean absolute difference of two frames in succession, in [0, 1], that is taken for a
            cut; None for no such test.
        preset: of the optical flow.

    Raises:
        ValueError: one of them is out of range.
    """

    max_age: int | None = None
    max_gap: float | None = 1.0
    cut: float | None = 0.2
    preset: str = "fast"

    def __post_init__(self) -> None:
        if self.max_age is not None and self.max_age < 0:
            raise ValueError(f"max_age must not be negative, got {self.max_age}")
        if self.max_gap is not None and not self.max_gap > 0:
            raise ValueError(f"max_gap must be positive, got {self.max_gap}")
        if self.cut is not None and not 0 < self.cut <= 1:
            raise ValueError(f"cut must lie in (0, 1], got {self.cut}")


@dataclass(frozen=True)
class Place:
    """Where a stream is in its video, after a frame.

    Attributes:
        key: the last key frame.
        last: the last frame that could be read.
        age: frames since the key.
        index: of the last frame, whether it could be read or not.
        seconds: of the last frame that had a time; None where none had.
        broken: whether the last frame could not be read.
    """

    key: Seen
    last: Seen
    age: int = 0
    index: int = 0
    seconds: float | None = None
    broken: bool = False


@dataclass(frozen=True)
class Choice:
    """What is to be done for a frame.

    Attributes:
        reason: see `FrameDecision`; ``"propagated"`` of what is no key.
        place: where the stream is once it is done.
        pair: the frame beside its key; None where there is no earlier one of its size.
    """

    reason: str
    place: Place
    pair: Pair | None = None

    @property
    def key(self) -> bool:
        """Whether the model runs."""
        return self.reason != "propagated"


def choose(
    schedule: Schedule,
    limits: Limits,
    place: Place | None,
    frame: Seen,
    seconds: float | None = None,
    described: dict[tuple[int, int], Tensor] | None = None,
) -> Choice:
    """Decides about a frame that could be read.

    Args:
        schedule: asked where nothing forces a key.
        limits: what does.
        place: after the frame before; None at the start of a video.
        frame: the frame.
        seconds: its time.
        described: see `Pair`; of other passes over the same clip.
    """
    if place is None:
        return Choice("first", Place(frame, frame, seconds=seconds))
    index, gap = place.index + 1, _gap(place, seconds)
    clock = place.seconds if gap is None else seconds
    now = Place(frame, frame, 0, index, clock)
    if frame.size != place.key.size:
        return Choice("size", now)
    known = {} if described is None else described
    pair = Pair(place.key, frame, place.age + 1, index, limits.preset, known)
    reason = _forced(limits, place, pair, gap)
    if reason is None and schedule.wants_key(pair):
        reason = "schedule"
    if reason is not None:
        return Choice(reason, now, pair)
    return Choice("propagated", Place(place.key, frame, pair.age, index, clock), pair)


def passed_by(place: Place) -> Place:
    """Where a stream is after a frame that could not be read."""
    return Place(place.key, place.last, place.age + 1, place.index + 1, place.seconds, True)


def _forced(limits: Limits, place: Place, pair: Pair, gap: float | None) -> str | None:
    if place.broken:
        return "recovery"
    if gap is not None and limits.max_gap is not None and gap > limits.max_gap:
        return "gap"
    if limits.max_age is not None and pair.age > limits.max_age:
        return "age"
    if limits.cut is not None and difference(place.last, pair.frame) > limits.cut:
        return "cut"
    return None


def _gap(place: Place, seconds: float | None) -> float | None:
    """Seconds since the frame before; None where times are missing or run backwards."""
    if seconds is None or place.seconds is None:
        return None
    if not seconds > place.seconds:  # NaN too
        warnings.warn(
            f"frame {place.index + 1} has the time {seconds:g} s after {place.seconds:g} s: times "
            "that do not rise are ignored, and gaps next to them not seen",
            stacklevel=4,
        )
        return None
    return seconds - place.seconds
