"""The demo dataset's scenes with an order in them: a digit tells what lies beside and below it.

In the demo dataset itself classes and places are drawn independently, so that no digit tells
anything of another one.
"""

from __future__ import annotations

import numpy as np

from dynbackbones.demo import digits, scenes

ROWS, COLUMNS = 2, 3
RIGHT, BELOW = 1, 2  # what is added to a digit's class, modulo the number of classes
ORDERED = 0.9  # share of the digits that follow the order; others are of any class


def compose(rng: np.random.Generator, samples: np.ndarray, labels: np.ndarray) -> scenes.Scene:
    """Draws a scene of two rows of three digits; arguments of `scenes.compose`."""
    classes = len(digits.CLASSES)
    height, width = scenes.HEIGHT // ROWS, scenes.WIDTH // COLUMNS
    first, windows = int(rng.integers(classes)), []
    for row, column in np.ndindex(ROWS, COLUMNS):
        label = (first + RIGHT * column + BELOW * row) % classes
        if rng.random() >= ORDERED:
            label = int(rng.integers(classes))
        window = (row * height, column * width, height, width, (1, 1), label)
        windows.append(scenes.Window(*window))
    return scenes.draw(rng, samples, labels, windows)
