"""Composing the demo dataset's pictures: a textured background with a few digits on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HEIGHT, WIDTH = 192, 256
DIGITS_PER_IMAGE = (2, 5)
DIGIT_HEIGHT = (28, 64)  # pixels
CONTRAST = (60, 110)  # grey levels between a digit and the background around it
MAX_ANGLE = 12  # degrees
GAP = 2  # pixels between two digits
_TRIES = 50


@dataclass(frozen=True)
class Digit:
    """One digit in a scene: which sample it shows, and its tight box (x, y, width, height)."""

    sample: int
    box: tuple[float, float, float, float]
    area: float


@dataclass(frozen=True)
class Window:
    """Part of a picture, in pixels, and the least and the largest number of digits in it.

    All are of the class ``label``, or each of any if that is None.
    """

    top: int
    left: int
    height: int
    width: int
    digits: tuple[int, int]
    label: int | None = None


@dataclass(frozen=True)
class Scene:
    """A picture (height, width, 3) uint8, its mask (height, width) uint8 and its digits.

    The mask is 0 on the background and 1 + label on a digit.
    """

    image: np.ndarray
    mask: np.ndarray
    digits: list[Digit]


def compose(rng: np.random.Generator, samples: np.ndarray, labels: np.ndarray) -> Scene:
    """Draws a scene of digits that do not touch, classes equally likely.

    Args:
        rng: the only source of randomness.
        samples: (n, 8, 8) in [0, 1], ink high.
        labels: (n,) class of each sample, from 0.
    """
    return draw(rng, samples, labels, [Window(0, 0, HEIGHT, WIDTH, DIGITS_PER_IMAGE)])


def draw(
    rng: np.random.Generator,
    samples: np.ndarray,
    labels: np.ndarray,
    windows: Sequence[Window],
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> Scene:
    """Draws a scene of a size with digits in windows of it; arguments of `compose` besides."""
    image = background(rng, size)
    mask = np.zeros(size, np.uint8)
    taken = np.zeros(size, bool)
    digits = []
    for window in windows:
        for _ in range(rng.integers(window.digits[0], window.digits[1] + 1)):
            label = rng.choice(np.unique(labels)) if window.label is None else window.label
            sample = int(rng.choice(np.flatnonzero(labels == label)))
            # Uniform in the logarithm: as many octaves of small digits as of large ones.
            height = float(np.exp(rng.uniform(*np.log(DIGIT_HEIGHT))))
            ink = render(samples[sample], height, rng.uniform(-MAX_ANGLE, MAX_ANGLE))
            place = free_place(rng, taken, ink.shape, window)
            if place is None:
                continue
            rows, columns = place
            image[rows, columns] = paint(rng, image[rows, columns], ink)
            inside = ink > 0.5
            mask[rows, columns][inside] = label + 1
            taken[rows, columns] = True
            x, y, width, height = tight_box(inside)
            box = (columns.start + x, rows.start + y, width, height)
            digits.append(Digit(sample, box, int(inside.sum())))
    noisy = image + rng.normal(0, rng.uniform(1, 5), image.shape)
    return Scene(noisy.round().clip(0, 255).astype(np.uint8), mask, digits)


def background(
    rng: np.random.Generator, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> np.ndarray:
    """Smooth colour noise of several scales, a gradient, and in every second image stripes.

    Args:
        rng: the only source of randomness.
        size: (height, width); texture is as coarse in pixels whatever it is.

    Returns:
        (height, width, 3) float64, grey levels, not yet clipped.
    """
    height, width = size
    larger = height / HEIGHT
    image = np.broadcast_to(rng.uniform(70, 185, 3), (*size, 3)).copy()
    for cells, amplitude in ((3, 24), (8, 12), (24, 6)):
        cells = round(cells * larger)
        shape = (cells, cells * width // height)
        light = _enlarged(rng.normal(0, rng.uniform(0.5, 1) * amplitude, shape), size)
        tint = [_enlarged(rng.normal(0, amplitude / 4, shape), size) for _ in range(3)]
        image += light[..., None] + np.stack(tint, axis=-1)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    gradient = np.cos(angle) * x + np.sin(angle) * y
    image += rng.uniform(0, 25) * gradient[..., None]
    if rng.random() < 0.5:
        angle, waves = rng.uniform(0, np.pi), rng.uniform(3, 12) * larger
        phase = waves * np.pi * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform(0, 2 * np.pi)
        # From soft waves to hard-edged bands.
        stripes = np.tanh(rng.uniform(0.5, 5) * np.sin(phase))
        image += rng.uniform(5, 18) * stripes[..., None] * rng.uniform(0.5, 1, 3)
    return image


def render(sample: np.ndarray, height: float, angle: float) -> np.ndarray:
    """Enlarges and turns an 8x8 digit.

    Args:
        sample: (8, 8) in [0, 1].
        height: of the upright digit, in pixels.
        angle: in degrees, anticlockwise.

    Returns:
        Coverage (h, w) in [0, 1], without empty rows or columns at its borders; the digit itself is
        where it exceeds 0.5.
    """
    from PIL import Image

    x, y, width, rows = tight_box(sample > 0.25)
    # Room for the interpolation to fade out.
    digit = np.pad(sample[y : y + rows, x : x + width], 1)
    scale = height / rows
    size = (round(digit.shape[0] * scale), round(digit.shape[1] * scale))
    picture = Image.fromarray(_enlarged(digit, size))
    picture = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    # A stroke of even ink with a soft edge, instead of the samples' blurred grey.
    coverage = ((np.asarray(picture) - 0.3) / 0.3).clip(0, 1)
    x, y, width, rows = tight_box(coverage > 0)
    return coverage[y : y + rows, x : x + width]


def tight_box(inside: np.ndarray) -> tuple[int, int, int, int]:
    """Smallest box (x, y, width, height) around the true pixels of a mask (h, w)."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def free_place(
    rng: np.random.Generator, taken: np.ndarray, shape: tuple[int, int], window: Window
) -> tuple[slice, slice] | None:
    """Rows and columns where a digit of that shape touches no other, or None if none was found."""
    for _ in range(_TRIES):
        top = window.top + int(rng.integers(0, window.height - shape[0] + 1))
        left = window.left + int(rng.integers(0, window.width - shape[1] + 1))
        around = taken[
            max(top - GAP, 0) : top + shape[0] + GAP,
            max(left - GAP, 0) : left + shape[1] + GAP,
        ]
        if not around.any():
            return slice(top, top + shape[0]), slice(left, left + shape[1])
    return None


def paint(rng: np.random.Generator, patch: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Lays a digit in a colour that stands out over a patch (h, w, 3) of the background."""
    return patch + ink[..., None] * (ink_colour(rng, patch) - patch)


def ink_colour(rng: np.random.Generator, patch: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) of a digit that stands out over a patch of the background."""
    grey = patch.mean()
    contrast = rng.uniform(*CONTRAST)
    # Towards whichever end of the grey scale has room, either where both have.
    signs = [sign for sign in (-1, 1) if 20 <= grey + sign * contrast <= 235]
    sign = rng.choice(signs) if signs else (-1 if grey > 127 else 1)
    tint = rng.normal(0, 18, 3)
    colour = grey + sign * contrast + tint - tint.mean()
    return colour + 0.3 * (patch - grey)


def _enlarged(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bicubic interpolation of (h, w) values to a larger shape."""
    from PIL import Image

    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BICUBIC))
