"""COCO-format datasets: where they are, and whether they are fit to use.

Mistakes in a dataset are found before training starts, in one line each. Every engine resolves
dataset names here, so that one YAML means the same data in each.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import distributed

from dynbackbones.data.annotations import Malformed, Normalised, normalise
from dynbackbones.data.classes import Classes as Classes
from dynbackbones.data.classes import class_names, match_classes
from dynbackbones.data.images import leaves
from dynbackbones.data.images import read_image as read_image
from dynbackbones.data.suspicions import suspicions
from dynbackbones.demo import digit_videos, digits, wide_digits
from dynbackbones.errors import UserError

_logger = logging.getLogger(__name__)
_ROOT_VARIABLE = "DETECTRON2_DATASETS"
# Below the root, as detectron2's catalog has them.
_COCO_2017 = {
    f"coco_2017_{split}": (f"coco/annotations/instances_{split}2017.json", f"coco/{split}2017")
    for split in ("train", "val")
}
# Written on first use: by what, and the split.
_WRITTEN = {
    **{f"digits_{split}": (digits.ensure_digits, split) for split in ("train", "val")},
    **{
        f"wide_digits_{split}": (wide_digits.ensure_wide_digits, split)
        for split in wide_digits.SPLITS
    },
    **{
        f"digit_videos_{split}": (digit_videos.ensure_digit_videos, split)
        for split in digit_videos.CLIPS
    },
}
_ADVICE = (
    f"set {_ROOT_VARIABLE} to the folder that holds the datasets, or try "
    "--config-file configs/demo/retinanet.yaml, which makes its own"
)


@dataclass(frozen=True)
class CocoSource:
    """One split of a dataset.

    Attributes:
        name: as configs call it.
        annotations: file in COCO's format.
        images: folder of its images.
        anywhere: whether the file may name images outside of that folder.
    """

    name: str
    annotations: Path
    images: Path
    anywhere: bool = False


def datasets_root() -> Path:
    """`$DETECTRON2_DATASETS`, by default `datasets` in the current folder, as in detectron2."""
    return Path(os.environ.get(_ROOT_VARIABLE) or "datasets").expanduser()


def known_datasets(coco_format: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """Names that `resolve` accepts: the config's own, the demo datasets' and COCO 2017's."""
    return sorted({*(coco_format or {}), *_WRITTEN, *_COCO_2017})


def resolve(name: str, coco_format: Mapping[str, Sequence[str]] | None = None) -> CocoSource:
    """Finds the files of a dataset; the demo datasets are written on first use.

    Args:
        name: a name from `known_datasets`.
        coco_format: the config's `DATASETS.COCO_FORMAT`, name -> [annotation file, image folder],
            relative to `datasets_root()`. Its names come before the built-in ones.

    Raises:
        UserError: unknown name, a malformed entry, or the demo dataset cannot be written.
    """
    root = datasets_root()
    if coco_format and name in coco_format:
        paths = coco_format[name]
        if isinstance(paths, str) or len(paths) != 2 or not all(isinstance(p, str) for p in paths):
            raise UserError(
                f"DATASETS.COCO_FORMAT.{name} is {paths!r}; "
                "it must be two paths: [annotation file, image folder]"
            )
        return CocoSource(name, root / paths[0], root / paths[1])
    if name in _WRITTEN:
        ensure, split = _WRITTEN[name]
        folder = ensure(root)
        return CocoSource(name, folder / f"annotations/instances_{split}.json", folder / split)
    if name in _COCO_2017:
        annotations, images = _COCO_2017[name]
        return CocoSource(name, root / annotations, root / images)
    raise UserError(
        f"unknown dataset {name!r}; known are {', '.join(known_datasets(coco_format))}. "
        "Add others to DATASETS.COCO_FORMAT as name: [annotation file, image folder]"
    )


@dataclass(frozen=True)
class Reading:
    """A dataset that was checked.

    Attributes:
        content: of its annotation file, made plain by `normalise`; in the order of their ids its
            categories are the model's classes.
        changed: whether a program that takes the file as it is reads anything else.
        completed: whether ``iscrowd`` was absent somewhere, which COCO's evaluation needs.
    """

    content: dict[str, Any]
    changed: bool
    completed: bool


def check(source: CocoSource, num_classes: int, classes: Classes | None = None) -> dict[str, Any]:
    """Reads a dataset's annotations and checks them; of images only that they are there.

    What looks wrong with the dataset as a whole, and what was read in another way than it is
    written, is logged as warnings.

    Args:
        source: from `resolve`.
        num_classes: what the model is configured for, background not counted.
        classes: what a dataset that the model is trained on, or its file, calls them. Categories
            in another order get other ids.

    Returns:
        The content, see `Reading`.

    Raises:
        UserError: folder or file missing, malformed annotations, images missing or outside the
            folder, another number of categories than ``num_classes``, or others than ``classes``.
    """
    return read(source, num_classes, classes).content


def read(source: CocoSource, num_classes: int, classes: Classes | None = None) -> Reading:
    """`check`, which says besides whether that is what the file itself says."""
    if not source.images.is_dir():
        raise UserError(f"{source.name}: image folder {source.images} does not exist; {_ADVICE}")
    data, done = _read_plain(source)
    names = class_names(data)
    if len(names) != num_classes:
        raise UserError(
            f"{source.name}: {source.annotations} has {len(names)} categories ({_listed(names)}), "
            f"but NUM_CLASSES is {num_classes}; set MODEL.RETINANET.NUM_CLASSES (RetinaNet) or "
            f"MODEL.ROI_HEADS.NUM_CLASSES (Faster R-CNN) to {len(names)}, or name other data in "
            "DATASETS.TRAIN and DATASETS.TEST"
        )
    where = f"{source.name}: {source.annotations}"
    moved = classes is not None and match_classes(data, classes, where)
    renamed = _mend_separators(source.images, data["images"])
    _check_images(source, data)
    for sentence in (*done.sentences, *suspicions(data)):
        _warn(f"{where}: {sentence}")
    if moved:
        _warn(
            f"{where}: its categories are those of {classes.whose}, but their ids are not in the "
            "same order; they are matched by name"
        )
    changed = done.changed or renamed or moved or class_names(data) != names
    return Reading(data, changed, done.completed)


def read_class_names(source: CocoSource) -> tuple[str, ...]:
    """Names of a dataset's categories in the order of labels; nothing else is checked.

    Raises:
        UserError: the annotation file is missing or malformed.
    """
    return class_names(_read_plain(source)[0])


def _mend_separators(folder: Path, images: Sequence[dict[str, Any]]) -> bool:
    """Reads ``more\\a.jpg``, as Windows writes it; returns whether there was one."""
    odd = [image for image in images if "\\" in image["file_name"]]
    absent = set(_missing(folder, [image["file_name"] for image in odd]))
    odd = [image for image in odd if image["file_name"] in absent]
    for image in odd:
        image["file_name"] = image["file_name"].replace("\\", "/")
    return bool(odd)


def _check_images(source: CocoSource, data: Mapping[str, Any]) -> None:
    """Makes sure that images lie in their folder, and that they are there."""
    names = [image["file_name"] for image in data["images"]]
    for name in () if source.anywhere else names:
        if leaves(source.images, name):
            raise UserError(
                f"{source.name}: {source.annotations} names the image {name}, which is outside of "
                f"the image folder {source.images}; if that is meant, set "
                "DATASETS.IMAGES_ANYWHERE True"
            )
    missing = _missing(source.images, names)
    if missing:
        raise UserError(
            f"{source.name}: {len(missing)} of {len(names)} images are missing from "
            f"{source.images}, the first is {missing[0]}; complete the folder or remove them from "
            f"{source.annotations}"
        )


def _read_plain(source: CocoSource) -> tuple[dict[str, Any], Normalised]:
    """The content of an annotation file, made plain, and what that changed."""
    if not source.annotations.is_file():
        raise UserError(
            f"{source.name}: annotation file {source.annotations} does not exist; {_ADVICE}"
        )
    data = _read_json(source)
    try:
        return data, normalise(data)
    except Malformed as error:
        raise _malformed(source, str(error)) from error


def _read_json(source: CocoSource) -> Any:
    try:
        # Some tools begin with a mark of the byte order.
        with open(source.annotations, encoding="utf-8-sig") as file:
            return json.load(file)
    except json.JSONDecodeError as error:
        raise _malformed(
            source, f"{error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        raise _malformed(source, "it is not text in UTF-8") from error
    except RecursionError as error:
        raise _malformed(source, "it is nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise _malformed(source, str(error).partition(";")[0]) from error


def _warn(text: str) -> None:
    # Once: every process of a run reads the same file.
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank()):
        _logger.warning(text)


def _malformed(source: CocoSource, what: str) -> UserError:
    return UserError(
        f"{source.name}: annotation file {source.annotations} is malformed: {what}; "
        "it must be in COCO's instances format"
    )


def _missing(folder: Path, file_names: Iterable[str]) -> list[str]:
    """Names that are not there; each folder is listed once, since a stat per image is slow."""
    present: dict[str, set[str]] = {}
    missing = []
    for file_name in file_names:
        parent, base = os.path.split(file_name)
        if parent not in present:
            try:
                present[parent] = set(os.listdir(folder / parent))
            except OSError:
                present[parent] = set()
        if base not in present[parent]:
            missing.append(file_name)
    return missing


def _listed(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
