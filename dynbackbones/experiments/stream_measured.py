"""What every frame of a clip shows from every key that it could have, measured once.

Schedules are then compared without running the model again: a frame's outcome depends on its key
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from dynbackbones.analysis.frame_schedules import ages_of
from dynbackbones.experiments.stream_clips import LabelledClip
from dynbackbones.training.progress import show_time_left
from dynbackbones.video.adapters import Adapter
from dynbackbones.video.agreement import Sample, agreement_of, describe
from dynbackbones.video.features import FeatureAdapter, Features
from dynbackbones.video.pairs import Pair, Seen
from dynbackbones.video.propagation import WAYS, Kept
from dynbackbones.video.schedules import closest

FEATURES = "features"  # warped, for the heads to look at again


@dataclass
class MeasuredClip:
    """Outcomes by frame and age of the key, the frame itself first.

    Attributes:
        clip: what was measured.
        max_age: of a key.
        outcomes: by way of propagation, then by frame, then by age.
        errors: (T, ages) of the same, infinite where there is no such key.
        differences: (T, ages) of `Pair.difference`.
        samples: of warped results, for a learned schedule.
    """

    clip: LabelledClip
    max_age: int
    outcomes: dict[str, list[list[Any]]]
    errors: dict[str, np.ndarray]
    differences: np.ndarray
    samples: list[Sample] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.clip.frames)

    def score(self, way: str, keys: Sequence[int]) -> float:
        """The clip's metric if the model runs on these frames."""
        ages = ages_of(keys, self.frames)
        return self.clip.score({t: self.outcomes[way][t][a] for t, a in enumerate(ages)})

    def score_at_age(self, way: str, age: int) -> float:
        """The metric over all frames that have a key so much earlier."""
        known = {t: own[age] for t, own in enumerate(self.outcomes[way]) if age < len(own)}
        return self.clip.score(known)

    def keys_where(self, wanted: np.ndarray) -> list[int]:
        """The keys of a schedule that sees a frame and its key.

        Args:
            wanted: (T, ages) bool, whether it makes the frame a key.
        """
        keys = [0]
        for t in range(1, self.frames):
            age = t - keys[-1]
            if age > self.max_age or wanted[t, age]:
                keys.append(t)
        return keys


@torch.no_grad()
def measure(
    adapter: Adapter | FeatureAdapter,
    clip: LabelledClip,
    *,
    max_age: int = 24,
    preset: str = "fast",
) -> MeasuredClip:
    """Runs a model on every frame, and moves each result to all later ones up to an age.

    Args:
        adapter: how the model is called; a `FeatureAdapter` has its features moved as well.
        clip: to measure on.
        max_age: frames that a result may be old.
        preset: of the optical flow.
    """
    count, shape = len(clip.frames), (len(clip.frames), max_age + 1)
    features = adapter if isinstance(adapter, FeatureAdapter) else None
    adapter, ways = (adapter, WAYS) if features is None else (features.whole, (*WAYS, FEATURES))
    result = MeasuredClip(
        clip,
        max_age,
        {way: [[] for _ in range(count)] for way in ways},
        {way: np.full(shape, np.inf) for way in ways},
        np.zeros(shape),
    )
    earlier: list[tuple[Seen, Kept, Features | None]] = []
    for t, image in enumerate(show_time_left(clip.frames, count, "frame")):
        frame, (own, kept) = Seen(image), (features or adapter).run(image)
        read, kept = (None, kept) if features is None else (kept, kept.own)
        outcome = clip.outcome(t, own)
        for way in ways:
            _add(result, way, t, 0, outcome)
        for age, (key, before, its) in enumerate(reversed(earlier), start=1):
            pair = Pair(key, frame, age, t, preset)
            moved = before.moved(pair)
            result.differences[t, age] = pair.difference
            _add(result, "copy", t, age, clip.outcome(t, adapter.result(before)))
            _add(result, "warp", t, age, clip.outcome(t, adapter.result(moved)))
            if features is not None:
                seen_again = features.result(its.moved(pair))
                _add(result, FEATURES, t, age, clip.outcome(t, seen_again))
            result.samples.append(Sample(t, age, describe(pair), agreement_of(moved, kept)))
        earlier = [*earlier, (frame, kept, read)][-max_age:]
    return result


def met(rate: float, count: int, keys_at: Callable[[float], list[int]]) -> list[int]:
    """The keys of the threshold that comes closest to a share, the higher the fewer.

    Args:
        rate: share of key frames.
        count: of frames.
        keys_at: keys by threshold in [0, 1].
    """
    wanted = round(rate * count)
    return keys_at(closest(lambda x: len(keys_at(x)), wanted, 0.0, 1.0, steps=40))


def _add(measured: MeasuredClip, way: str, frame: int, age: int, outcome: Any) -> None:
    measured.outcomes[way][frame].append(outcome)
    measured.errors[way][frame, age] = measured.clip.error(frame, outcome)
