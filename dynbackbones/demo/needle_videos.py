"""Videos with a needle: clutter in which a digit shows for a few frames, and is the video's class.

A camera pans over a textured scene like the demo dataset's; once, a digit passes. What a frame
shows elsewhere says nothing of the class, so that accuracy tells how many of the frames that
matter were looked at (`expected_accuracy`). Train and val use disjoint digit samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dynbackbones.demo import digits, scenes
from dynbackbones.demo.digit_tiles import CLASSES

FRAMES = 60
VISIBLE = 6  # consecutive frames
EDGE = 64  # pixels
DIGIT_HEIGHT = (18, 26)  # pixels: a few at an eighth of the size, too few to be told apart
SPLITS = ("train", "val")
_SPEED = 2.0  # pixels a frame, of camera and digit
_MAX_ANGLE = 12  # degrees


class NeedleVideo(NamedTuple):
    """A video.

    Attributes:
        frames: (FRAMES, EDGE, EDGE, 3) uint8 RGB.
        label: class of the digit, an index of `CLASSES`.
        first: frame in which the digit is first visible; it is for `VISIBLE` frames.
        sample: which of scikit-learn's samples it is.
    """

    frames: np.ndarray
    label: int
    first: int
    sample: int

    @property
    def visible(self) -> np.ndarray:
        """(FRAMES,) bool, where the digit shows."""
        return is_visible(self.first)


def is_visible(first: int | np.ndarray) -> np.ndarray:
    """(..., FRAMES) bool, where a digit shows that is first visible in a frame."""
    since = np.arange(FRAMES) - np.asarray(first)[..., None]
    return (since >= 0) & (since < VISIBLE)


class NeedleVideos(Sequence):
    """Videos of a split, each drawn when it is asked for, in some 20 ms.

    The same arguments give the same videos, and a video does not depend on how many there are.

    Args:
        split: ``"train"`` or ``"val"``, of other digit samples.
        count: number of videos.
        seed: of everything random but the division of samples, which is the demo dataset's.

    Raises:
        ValueError: there is no such split, or the count is below 1.
        UserError: scikit-learn or Pillow is missing.

    Example:
        >>> from dynbackbones.demo.needle_videos import NeedleVideos
        >>> video = NeedleVideos("train", 10)[3]
        >>> video.frames.shape, int(video.visible.sum())
        ((60, 64, 64, 3), 6)
    """

    def __init__(self, split: str, count: int, seed: int = digits.SEED) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self._samples, self._labels = digits.load_samples(len(CLASSES))
        self._chosen = digits.split_samples(self._labels, digits.SEED)[split]
        self._split, self._count, self._seed = split, count, seed

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[NeedleVideo]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> NeedleVideo:
        rng, label, first, sample = self._drawn(index)
        frames = _panned(rng)
        _pass_by(rng, frames[first : first + VISIBLE], self._samples[sample])
        noise = rng.uniform(1, 5) * rng.standard_normal(frames.shape, np.float32)
        frames = (frames + noise).round().clip(0, 255).astype(np.uint8)
        return NeedleVideo(frames, label, first, sample)

    def _drawn(self, index: int) -> tuple[np.random.Generator, int, int, int]:
        """A video's generator, label, first visible frame and sample, before anything is drawn."""
        if not 0 <= index < self._count:
            raise IndexError(f"video {index} of {self._count}")
        rng = np.random.default_rng([self._seed, 5 + SPLITS.index(self._split), index])
        label = int(rng.integers(len(CLASSES)))
        sample = int(rng.choice(self._chosen[self._labels[self._chosen] == label]))
        return rng, label, int(rng.integers(FRAMES - VISIBLE + 1)), sample


def spliced_frames(
    digit: np.ndarray, clutter: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which frames make a video of one video's digit in the clutter of another.

    Args:
        digit: (...,) first frame with the digit that is taken.
        clutter: (...,) first frame with the digit of the other video, whose frames without it are
            taken in order.
        at: (...,) first frame with the digit in what is made.

    Returns:
        (..., FRAMES) bool, where the digit's video is taken, and (..., FRAMES) frames of either.
    """
    times, at = np.arange(FRAMES), np.asarray(at)[..., None]
    rest = times - VISIBLE * (times >= at + VISIBLE)
    rest = rest + VISIBLE * (rest >= np.asarray(clutter)[..., None])
    shows = is_visible(at[..., 0])
    frames = np.where(shows, np.asarray(digit)[..., None] + times - at, rest)
    return shows, frames.clip(0, FRAMES - 1)


def expected_accuracy(share_seen: float, accuracy: float) -> float:
    """What a classifier reaches that guesses where it saw no digit.

    Args:
        share_seen: h, share of the videos of which a frame with the digit was looked at; with K
            evenly spaced frames about ``min(1, K * VISIBLE / FRAMES)``, with each frame at a rate r
            ``1 - (1 - r)**VISIBLE``.
        accuracy: a, on such frames.
    """
    return share_seen * accuracy + (1 - share_seen) / len(CLASSES)


def _panned(rng: np.random.Generator) -> np.ndarray:
    """Frames (FRAMES, EDGE, EDGE, 3) float32 of a camera that pans over a larger scene."""
    canvas = scenes.background(rng, (2 * EDGE, 2 * EDGE)).astype(np.float32)
    tops, lefts = (_path(rng, FRAMES, EDGE) for _ in range(2))
    places = zip(tops, lefts, strict=True)
    return np.stack([canvas[y : y + EDGE, x : x + EDGE] for y, x in places])


def _pass_by(rng: np.random.Generator, frames: np.ndarray, sample: np.ndarray) -> None:
    """Lays a moving digit over frames."""
    ink = scenes.render(sample, rng.uniform(*DIGIT_HEIGHT), rng.uniform(-_MAX_ANGLE, _MAX_ANGLE))[
        :EDGE, :EDGE
    ]
    height, width = ink.shape
    tops, lefts = (_path(rng, len(frames), EDGE - size) for size in (height, width))
    colour = int(rng.integers(2**31))
    for frame, y, x in zip(frames, tops, lefts, strict=True):
        place = slice(y, y + height), slice(x, x + width)
        # The same colour in each frame, as far as the background lets it.
        frame[place] = scenes.paint(np.random.default_rng(colour), frame[place], ink)


def _path(rng: np.random.Generator, steps: int, room: int) -> np.ndarray:
    """Positions (steps,) in 0..room of something that moves evenly and turns at the ends."""
    way = rng.uniform(0, 2 * room) + rng.uniform(-_SPEED, _SPEED) * np.arange(steps)
    return np.abs((way + room) % (2 * room) - room).round().astype(int) if room else way.astype(int)
