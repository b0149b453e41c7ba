"""The demo dataset: scikit-learn's real handwritten digits in textured scenes.

Five classes, the digits zero to four; most of every image is background, so that a spatially
dynamic network has something to save. Train and val use disjoint digit samples. Below the root:

    digits/{train,val}/*.jpg                        images
    digits/masks/{train,val}/*.png                  semantic masks: 0 background, 1 to 5 the digits
    digits/annotations/instances_{train,val}.json   boxes, COCO format, category ids 1 to 5
    digits/labels_{train,val}.json                  category ids that each image shows
    digits/meta.json                                version, seed and number of images
"""

import json
import logging
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from dynbackbones.demo import scenes
from dynbackbones.errors import UserError

CLASSES = ("zero", "one", "two", "three", "four")
# To be raised whenever other files come out: a folder of another version is refused, not reused.
VERSION = 1
NUM_TRAIN, NUM_VAL, SEED = 600, 100, 0
_SPLITS = ("train", "val")
_VAL_SHARE = 0.25  # of each class's samples
_JPEG_QUALITY = 90

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
    if _is_written(folder, {"version": VERSION, "seed": SEED}):
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
    if _is_written(folder, meta):
        return folder
    samples, labels = load_samples()
    _logger.info("writing the demo dataset (%d images) to %s", num_train + num_val, folder)
    temporary = folder.with_name(f".digits-{uuid.uuid4().hex}")
    try:
        for split, count in zip(_SPLITS, (num_train, num_val), strict=True):
            _write_split(temporary, split, count, samples, labels, seed)
        _write_json(temporary / "meta.json", meta)
        _move(temporary, folder, meta)
    except OSError as error:
        raise UserError(
            f"the demo dataset cannot be written to {folder}: {error.strerror or error}; "
            "set DETECTRON2_DATASETS to a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
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


def _is_written(folder: Path, expected: dict[str, int]) -> bool:
    """Whether the folder holds the expected dataset.

    Raises:
        UserError: it holds anything else.
    """
    if not folder.exists():
        return False
    remedy = "move it away, or set DETECTRON2_DATASETS to another folder"
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        found = {key: meta[key] for key in expected}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is in the way of the demo dataset: it has no valid meta.json; {remedy}"
        ) from error
    if found != expected:
        raise UserError(
            f"{folder} holds another demo dataset: {_shown(found)} instead of "
            f"{_shown(expected)}; {remedy}"
        )
    return True


def _shown(meta: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in meta.items())


def _move(temporary: Path, folder: Path, meta: dict[str, int]) -> None:
    """Puts the finished folder in place, unless another process was first."""
    try:
        temporary.rename(folder)
    except OSError:
        if not _is_written(folder, meta):
            raise


def _write_split(
    folder: Path, split: str, count: int, samples: np.ndarray, labels: np.ndarray, seed: int
) -> None:
    """Writes one split's images, masks, boxes and labels."""
    from PIL import Image

    for path in (folder / split, folder / "masks" / split, folder / "annotations"):
        path.mkdir(parents=True, exist_ok=True)
    chosen = split_samples(labels, seed)[split]
    images, annotations, shown = [], [], {}
    for index in range(count):
        # One generator per image: an image does not depend on how many others there are.
        rng = np.random.default_rng([seed, 1 + _SPLITS.index(split), index])
        scene = scenes.compose(rng, samples[chosen], labels[chosen])
        name = f"{index:06d}"
        Image.fromarray(scene.image).save(folder / split / f"{name}.jpg", quality=_JPEG_QUALITY)
        Image.fromarray(scene.mask).save(folder / "masks" / split / f"{name}.png")
        images.append(
            {
                "id": index + 1,
                "file_name": f"{name}.jpg",
                "height": scenes.HEIGHT,
                "width": scenes.WIDTH,
            }
        )
        for digit in scene.digits:
            sample = int(chosen[digit.sample])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": int(labels[sample]) + 1,
                    "bbox": list(digit.box),
                    "area": digit.area,
                    "iscrowd": 0,
                    "sample": sample,
                }
            )
        shown[f"{name}.jpg"] = sorted({int(labels[chosen[d.sample]]) + 1 for d in scene.digits})
    categories = [
        {"id": index + 1, "name": name, "supercategory": "digit"}
        for index, name in enumerate(CLASSES)
    ]
    _write_json(
        folder / "annotations" / f"instances_{split}.json",
        {"images": images, "annotations": annotations, "categories": categories},
    )
    _write_json(folder / f"labels_{split}.json", {"classes": CLASSES, "labels": shown})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
