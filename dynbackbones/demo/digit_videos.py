"""Clips with digits, to try on how few frames of a video a detector or segmentor must run.

A world that is larger than the frame has a textured ground with digits on it; a camera looks at a
part of it. Digits keep their looks, the sensor's noise differs from frame to frame. No clip shows
a digit sample that the demo dataset trains with. Below the root, laid out as the demo dataset:

    digit_videos/bursts   240 frames: digits and camera rest for 10 to 40 and move for 3 to 8
    digit_videos/pan      120 frames: the camera moves all the time
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynbackbones.demo import coco_folder, digits, scenes

SIZE = (scenes.HEIGHT, scenes.WIDTH)
CLIPS = {"bursts": 240, "pan": 120}  # and their number of frames
VERSION = 1
REST, MOVE = (10, 40), (3, 8)  # frames of the bursts
_TITLE = "the clips with digits"
_WORLD = {"bursts": (288, 384), "pan": (256, 640)}  # pixels
_SPEED = (2.0, 5.0)  # pixels in a frame
_PAN = (0.5, 3.0)  # likewise, down and to the right
_PIXELS_OF_A_DIGIT = 14_000  # of the world, so that a frame shows three or four
_NOISE = 2.0  # grey levels
_SEEN = 0.25  # share of a digit inside of the frame from which it counts as an object

_logger = logging.getLogger(__name__)


def ensure_digit_videos(root: str | os.PathLike) -> Path:
    """Writes the clips unless they are there, in seconds.

    Args:
        root: folder of all datasets.

    Returns:
        ``root/digit_videos``.

    Raises:
        UserError: that is something else or cannot be written; scikit-learn or Pillow is missing.
    """
    folder = Path(root) / "digit_videos"
    meta = {"version": VERSION, "seed": digits.SEED}
    if coco_folder.is_written(folder, meta, _TITLE):
        return folder
    samples, labels = digits.load_samples()
    chosen = digits.split_samples(labels, digits.SEED)["val"]
    _logger.info("writing %s (%d frames) to %s", _TITLE, sum(CLIPS.values()), folder)

    def write(temporary: Path) -> None:
        for clip, count in CLIPS.items():
            shots = itertools.islice(shoot(clip, samples[chosen], labels[chosen]), count)
            coco_folder.write_split(temporary, clip, shots, chosen, labels, digits.CLASSES)

    coco_folder.write_whole(folder, meta, write, _TITLE)
    return folder


def shoot(clip: str, samples: np.ndarray, labels: np.ndarray) -> Iterator[scenes.Scene]:
    """The frames of a clip, without end.

    Args:
        clip: of `CLIPS`.
        samples: (n, 8, 8) in [0, 1], ink high.
        labels: (n,) class of each sample, from 0.
    """
    rng = np.random.default_rng([digits.SEED, 20 + list(CLIPS).index(clip)])
    world = World(rng, samples, labels, _WORLD[clip])
    if clip == "pan":
        world.camera[:] = 0
        world.start(np.array(_PAN))
        while True:
            yield world.shot(rng)
            world.step()
    while True:
        for _ in range(rng.integers(*REST, endpoint=True)):
            yield world.shot(rng)
        world.start(_velocity(rng))
        for digit in world.digits:
            digit.velocity = _velocity(rng) * (rng.random() < 0.5)
        for _ in range(rng.integers(*MOVE, endpoint=True)):
            world.step()
            yield world.shot(rng)


@dataclass
class MovingDigit:
    """A digit of a world.

    Attributes:
        sample: which one it shows.
        label: its class.
        ink: (h, w) in [0, 1], how much of the ground it covers.
        colour: (h, w, 3), the same wherever it is.
        place: (2,) upper left corner in the world, y and x; not always whole pixels.
        velocity: (2,) pixels in a frame.
    """

    sample: int
    label: int
    ink: np.ndarray
    colour: np.ndarray
    place: np.ndarray
    velocity: np.ndarray

    def slices(self, place: np.ndarray, gap: int = 0) -> tuple[slice, slice]:
        """Rows and columns that it would cover at a place, with a gap around it."""
        starts = place.round().astype(int)
        return tuple(
            slice(max(start - gap, 0), start + length + gap)
            for start, length in zip(starts.tolist(), self.ink.shape, strict=True)
        )


class World:
    """A ground, digits that do not touch, and a camera in its middle.

    Args:
        rng: of what it looks like.
        samples, labels: see `shoot`.
        size: (height, width) in pixels.

    Attributes:
        camera: (2,) upper left corner of the frame, y and x; not always whole pixels.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        samples: np.ndarray,
        labels: np.ndarray,
        size: tuple[int, int],
    ) -> None:
        self.ground = scenes.background(rng, size)
        self.digits: list[MovingDigit] = []
        self._room = np.array(size) - SIZE
        self.camera, self._velocity = self._room / 2, np.zeros(2)
        window = scenes.Window(0, 0, *size, (0, 0))
        for _ in range(size[0] * size[1] // _PIXELS_OF_A_DIGIT):
            self._add(rng, samples, labels, window)

    def start(self, velocity: np.ndarray) -> None:
        """Sends the camera off, away from a border that it would meet at once."""
        beyond = (self.camera + 8 * velocity > self._room) | (self.camera + 8 * velocity < 0)
        self._velocity = np.where(beyond, -velocity, velocity)

    def step(self) -> None:
        """Moves the camera and each digit by a frame; one that would touch another waits."""
        self.camera = (self.camera + self._velocity).clip(0, self._room)
        for digit in self.digits:
            place = digit.place + digit.velocity
            limit = np.array(self.ground.shape[:2]) - digit.ink.shape
            taken = self._taken(but=digit)[digit.slices(place, scenes.GAP)]
            if not taken.any() and (place >= 0).all() and (place <= limit).all():
                digit.place = place

    def shot(self, rng: np.random.Generator) -> scenes.Scene:
        """What the camera sees, with noise."""
        image, mask = self.ground.copy(), np.zeros(self.ground.shape[:2], np.uint8)
        for digit in self.digits:
            there = digit.slices(digit.place)
            image[there] += digit.ink[..., None] * (digit.colour - image[there])
            mask[there][digit.ink > 0.5] = digit.label + 1
        frame = self._frame()
        noisy = image[frame] + rng.normal(0, _NOISE, (*SIZE, 3))
        pixels = noisy.round().clip(0, 255).astype(np.uint8)
        seen = [found for digit in self.digits if (found := self._seen(digit, frame))]
        return scenes.Scene(pixels, mask[frame].copy(), seen)

    def _add(self, rng, samples: np.ndarray, labels: np.ndarray, window: scenes.Window) -> None:
        """One more digit, of a sample that no other shows, where there is room."""
        free = np.setdiff1d(np.arange(len(labels)), [digit.sample for digit in self.digits])
        label = rng.choice(np.unique(labels[free]))
        sample = int(rng.choice(free[labels[free] == label]))
        height = float(np.exp(rng.uniform(*np.log(scenes.DIGIT_HEIGHT))))
        angle = rng.uniform(-scenes.MAX_ANGLE, scenes.MAX_ANGLE)
        ink = scenes.render(samples[sample], height, angle)
        place = scenes.free_place(rng, self._taken(), ink.shape, window)
        if place is not None:
            corner = np.array([part.start for part in place], float)
            colour = scenes.ink_colour(rng, self.ground[place])
            self.digits.append(MovingDigit(sample, int(label), ink, colour, corner, np.zeros(2)))

    def _taken(self, but: MovingDigit | None = None) -> np.ndarray:
        taken = np.zeros(self.ground.shape[:2], bool)
        for digit in self.digits:
            if digit is not but:
                taken[digit.slices(digit.place)] = True
        return taken

    def _frame(self) -> tuple[slice, slice]:
        starts = self.camera.round().astype(int).tolist()
        return tuple(slice(s, s + n) for s, n in zip(starts, SIZE, strict=True))

    def _seen(self, digit: MovingDigit, frame: tuple[slice, slice]) -> scenes.Digit | None:
        """The digit as an object of the frame, if enough of it is inside."""
        inside = np.zeros(self.ground.shape[:2], bool)
        inside[digit.slices(digit.place)] = digit.ink > 0.5
        shown = inside[frame]
        if shown.sum() < _SEEN * inside.sum():
            return None
        return scenes.Digit(digit.sample, scenes.tight_box(shown), int(shown.sum()))


def _velocity(rng: np.random.Generator) -> np.ndarray:
    speed, angle = rng.uniform(*_SPEED), rng.uniform(0, 2 * np.pi)
    return speed * np.array([np.sin(angle), np.cos(angle)])
