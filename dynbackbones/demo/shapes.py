"""Pairs of shapes of which one and the offset tell the other, after the dissertation's 5.4.1.

White shapes on black: a square lies to the side of its circle, a triangle above or below, and what
lies off in both directions is empty. The patch of the circle alone does not tell which it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

EDGE = 320  # pixels, of an image
KINDS = ("square", "triangle", "black")
COUNTS = {"square": 300, "triangle": 300, "black": 200}
SHAPE = (28, 44)  # edge of a shape
NEAR, FAR = 30, 130  # pixels: at most off the axis; at most along it
APART = 60  # pixels along the axis at least, so that shapes do not touch
_FINE = 8  # places of a pixel at which a shape is looked at, in both directions


@dataclass(frozen=True)
class ShapePair:
    """A circle and what belongs to it.

    Attributes:
        image: (EDGE, EDGE, 3) uint8 RGB.
        context, target: tight boxes of the circle and of the other, left, top, right, bottom.
        kind: of the other, an index of `KINDS`.
    """

    image: np.ndarray
    context: tuple[int, int, int, int]
    target: tuple[int, int, int, int]
    kind: int


def shape_pairs(seed: int = 0) -> Iterator[ShapePair]:
    """The 800 pairs in an order of no meaning: 300 squares, 300 triangles, 200 empty patches."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(len(KINDS)), [COUNTS[kind] for kind in KINDS])
    for kind in rng.permutation(kinds):
        yield draw_pair(rng, int(kind))


def draw_pair(rng: np.random.Generator, kind: int) -> ShapePair:
    """A pair of a kind.

    Args:
        rng: the only source of randomness.
        kind: index of `KINDS`.
    """
    away = rng.choice([-1, 1], 2) * (
        rng.integers(APART, FAR + 1),
        rng.integers(0, NEAR + 1) if KINDS[kind] != "black" else rng.integers(NEAR + 1, FAR + 1),
    )
    if KINDS[kind] == "triangle" or (KINDS[kind] == "black" and rng.random() < 0.5):
        away = away[::-1]
    edges = rng.integers(SHAPE[0], SHAPE[1] + 1, 2)
    margin = SHAPE[1] // 2 + 1
    lowest = margin + np.maximum(0, -away)
    highest = EDGE - margin - np.maximum(0, away)
    centre = rng.integers(lowest, highest + 1)
    context, target = _box(centre, edges[0]), _box(centre + away, edges[1])
    image = np.zeros((EDGE, EDGE, 3), np.uint8)
    _paint(image, context, "circle")
    _paint(image, target, KINDS[kind])
    return ShapePair(image, context, target, kind)


def _box(centre: np.ndarray, edge: int) -> tuple[int, int, int, int]:
    left, top = (int(value) - int(edge) // 2 for value in centre)
    return left, top, left + int(edge), top + int(edge)


def _paint(image: np.ndarray, box: tuple[int, int, int, int], shape: str) -> None:
    left, top, right, bottom = box
    # Places within the box from -1 to 1, several to a pixel, whose grey is their mean: edges are
    # soft, and shapes of different sizes look alike when resized.
    edge = right - left
    places = (np.arange(_FINE * edge) + 0.5) / (_FINE * edge) * 2 - 1
    x, y = places[None, :], places[:, None]
    inside = {
        "circle": x**2 + y**2 <= 1,
        "square": np.ones((len(places), len(places)), bool),
        "triangle": 2 * np.abs(x) <= 1 + y,
        "black": np.zeros((len(places), len(places)), bool),
    }[shape]
    grey = 255 * inside.reshape(edge, _FINE, edge, _FINE).mean(axis=(1, 3))
    image[top:bottom, left:right] = grey.round()[..., None]
