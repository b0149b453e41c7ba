"""Large scenes with digits in a corner or two, for what looks closer only where it pays.

Digits are as large in pixels as the demo dataset's, the scenes sixteen times; a pass at a quarter
of their resolution sees digits of 7 to 16 pixels. Below the root, laid out as the demo dataset:

    wide_digits/train    192x256: every other picture is a whole scene at a quarter of its
                         resolution, the others are what a part of one would look like in full, so
                         that one detector learns both scales; samples of the demo's "train"
    wide_digits/gains    768x1024, with half of the samples that the demo dataset validates with
    wide_digits/val      768x1024, with the other half
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dynbackbones.demo import coco_folder, digits, scenes

SIZE = (768, 1024)
SCALE = 4
SPLITS = {"train": 600, "gains": 200, "val": 100}  # and their number of images
VERSION = 1
_TITLE = "the dataset of wide scenes"
_TWO_CLUSTERS = 0.2  # share of scenes
_CLUSTER = (90, 180)  # pixels, edge of the square in which a cluster's digits lie
_DIGITS = (2, 5)

_logger = logging.getLogger(__name__)


def ensure_wide_digits(root: str | os.PathLike) -> Path:
    """Writes the dataset unless it is there, in a minute or two.

    Args:
        root: folder of all datasets.

    Returns:
        ``root/wide_digits``.

    Raises:
        UserError: that is something else or cannot be written; scikit-learn or Pillow is missing.
    """
    folder = Path(root) / "wide_digits"
    meta = {"version": VERSION, "seed": digits.SEED}
    if coco_folder.is_written(folder, meta, _TITLE):
        return folder
    samples, labels = digits.load_samples()
    _logger.info("writing %s (%d images) to %s", _TITLE, sum(SPLITS.values()), folder)

    def write(temporary: Path) -> None:
        for split, count in SPLITS.items():
            chosen = _samples_of(split, labels)
            pictures = _pictures(split, count, samples[chosen], labels[chosen])
            coco_folder.write_split(temporary, split, pictures, chosen, labels, digits.CLASSES)

    coco_folder.write_whole(folder, meta, write, _TITLE)
    return folder


def compose(rng: np.random.Generator, samples: np.ndarray, labels: np.ndarray) -> scenes.Scene:
    """Draws a scene of ``SIZE``; arguments of `scenes.compose`."""
    clusters = 1 + (rng.random() < _TWO_CLUSTERS)
    windows = [_cluster(rng, SIZE) for _ in range(clusters)]
    return scenes.draw(rng, samples, labels, windows, SIZE)


def reduced(scene: scenes.Scene, scale: int = SCALE) -> scenes.Scene:
    """A scene at lower resolution; the mask takes every ``scale``-th pixel."""
    from PIL import Image

    height, width = (length // scale for length in scene.mask.shape)
    image = Image.fromarray(scene.image).resize((width, height), Image.Resampling.BILINEAR)
    found = [
        scenes.Digit(d.sample, tuple(v / scale for v in d.box), d.area / scale**2)
        for d in scene.digits
    ]
    mask = scene.mask[scale // 2 :: scale, scale // 2 :: scale]
    return scenes.Scene(np.asarray(image), np.ascontiguousarray(mask), found)


def _cluster(rng: np.random.Generator, size: tuple[int, int]) -> scenes.Window:
    edge = int(rng.integers(*_CLUSTER))
    top, left = (int(rng.integers(0, length - edge + 1)) for length in size)
    return scenes.Window(top, left, edge, edge, _DIGITS)


def _samples_of(split: str, labels: np.ndarray) -> np.ndarray:
    """Neither "gains" nor "val" shows what a detector, or the demo's, was trained on."""
    chosen = digits.split_samples(labels, digits.SEED)
    if split == "train":
        return chosen["train"]
    # Of each class every other one.
    place = np.zeros(len(labels), int)
    for label in np.unique(labels):
        own = chosen["val"][labels[chosen["val"]] == label]
        place[own] = np.arange(len(own))
    return chosen["val"][place[chosen["val"]] % 2 == (split == "val")]


def _pictures(
    split: str, count: int, samples: np.ndarray, labels: np.ndarray
) -> Iterator[scenes.Scene]:
    for index in range(count):
        rng = np.random.default_rng([digits.SEED, 10 + list(SPLITS).index(split), index])
        if split != "train":
            yield compose(rng, samples, labels)
        elif index % 2:
            yield reduced(compose(rng, samples, labels))
        else:
            size = scenes.HEIGHT, scenes.WIDTH
            yield scenes.draw(rng, samples, labels, [_cluster(rng, size)])
