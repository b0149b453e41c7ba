"""What a stream decided about a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class FrameDecision:
    """What was done for one frame of a stream.

    Attributes:
        index: of the frame in its video, from 0.
        key: whether the model ran on it.
        age: frames since the one that the model ran on; 0 where it ran on this one.
        reason: ``"schedule"``, ``"first"`` (of a video), ``"size"`` (another one than before),
            ``"gap"`` (in time), ``"cut"``, ``"age"`` (the result was older than ``max_age``),
            ``"recovery"`` (the frame before could not be read) of a key; ``"propagated"`` or
            ``"unreadable"`` (the last result is shown again) of others.
        milliseconds: of the whole call.
        count: counts the multiply-accumulates when asked.
    """

    index: int
    key: bool
    age: int
    reason: str
    milliseconds: float
    count: Callable[[], float | None] = field(repr=False, compare=False)

    @cached_property
    def macs(self) -> float | None:
        """Multiply-accumulates of the model for this frame; optical flow has none.

        Those of its heads where features are moved, and 0 of any other frame that is no key.
        Counted once for each size, for noise: those of a second stage, or of a dynamic backbone,
        are what noise costs. None of a model that is a plain function.
        """
        return self.count()
