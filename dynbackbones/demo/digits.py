"""The demo dataset: scikit-learn's real handwritten digits in textured scenes.

Five classes, the digits zero to four; most of every image is background, so that a spatially
dynamic network has something to save. Train and val use disjoint digit samples. Below the root:

    digits/{train,val}/*.jpg                        images
    digits/masks/{train,val}/*.png                  semantic masks: 0 background, 1 to 5 the digits
    digits/annotations/instances_{train,val}.json   boxes, COCO format, category ids 1 to 5
    digits/labels_{train,val}.json                  category ids that each image shows
    digits/meta.json                                version, seed and number of images
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dynbackbones.demo import coco_folder, scenes
from dynbackbones.errors import UserError

CLASSES = ("zero", "one", "two", "three", "four")
# To be raised whenever other files come out: a folder of another version is refused, not reused.
VERSION = 1
NUM_TRAIN, NUM_VAL, SEED = 600, 100, 0
_SPLITS = ("train", "val")
_VAL_SHARE = 0.25  # of each class's samples

_logger = logging.getLogger(__name__)


def ensure_digits(root: str | os.PathLike) -> Path:
    """Writes the demo dataset of this version and the default seed unless it is there.

    A folder that `write_digits` filled with another number of images is taken as it is.

    Args:
        root: folder of all datasets.

    Returns:
        `root/digits`.

    Raises:
        UserError: `root/digits` is something else, or cannot be written.
    """
    folder = Path(root) / "digits"
    if coco_folder.is_written(folder, {"version": VERSION, "seed": SEED}):
        return folder
    return write_digits(root)


def write_digits(
    root: str | os.PathLike, num_train: int = NUM_TRAIN, num_val: int = NUM_VAL, seed: int = SEED
) -> Path:
    """Writes the demo dataset, in seconds; does nothing where the same one is already.

    The folder appears complete or not at all, and several processes may write it at once. The same
    arguments give the same files.

    Args:
        root: folder of all datasets.
        num_train: images of the train split.
        num_val: images of the val split.
        seed: of everything random, including which samples go into which split.

    Returns:
        `root/digits`.

    Raises:
        ValueError: a number of images below 1 or a negative seed.
        UserError: `root/digits` is something else, or cannot be written; a package is missing.
    """
    for name, value, least in (
        ("num_train", num_train, 1),
        ("num_val", num_val, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")
    folder = Path(root) / "digits"
    meta = {"version": VERSION, "seed": seed, "num_train": num_train, "num_val": num_val}
    if coco_folder.is_written(folder, meta):
        return folder
    samples, labels = load_samples()
    _logger.info("writing the demo dataset (%d images) to %s", num_train + num_val, folder)

    def write(temporary: Path) -> None:
        for split, count in zip(_SPLITS, (num_train, num_val), strict=True):
            chosen = split_samples(labels, seed)[split]
            images = _scenes(split, count, samples[chosen], labels[chosen], seed)
            coco_folder.write_split(temporary, split, images, chosen, labels, CLASSES)

    coco_folder.write_whole(folder, meta, write, "the demo dataset")
    return folder


def split_samples(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Divides the digit samples between the splits, class by class.

    Args:
        labels: (n,) class of each sample.
        seed: of the division.

    Returns:
        Sample indices of "train" and "val": disjoint, together all of them.
    """
    rng = np.random.default_rng([seed, 0])
    chosen: dict[str, list[np.ndarray]] = {split: [] for split in _SPLITS}
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        num_val = round(_VAL_SHARE * len(indices))
        chosen["val"].append(indices[:num_val])
        chosen["train"].append(indices[num_val:])
    return {split: np.sort(np.concatenate(parts)) for split, parts in chosen.items()}


def load_samples(num_classes: int = len(CLASSES)) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's samples (n, 8, 8) in [0, 1] of the first classes, and their labels (n,).

    Raises:
        UserError: scikit-learn or Pillow is missing.
    """
    # Here and not above: the core package does without both.
    try:
        import PIL.Image  # noqa: F401  (named here, before the first image needs it)
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            f"the demo dataset needs {error.name}; install it with pip install 'dynbackbones[demo]'"
        ) from error
    digits = load_digits()
    used = digits.target < num_classes
    return digits.images[used] / 16, digits.target[used]


def _scenes(
    split: str, count: int, samples: np.ndarray, labels: np.ndarray, seed: int
) -> Iterator[scenes.Scene]:
    for index in range(count):
        # One generator per image: an image does not depend on how many others there are.
        rng = np.random.default_rng([seed, 1 + _SPLITS.index(split), index])
        yield scenes.compose(rng, samples, labels)
