"""The content of a COCO annotation file, made plain: what tools write in many ways, in one.

Each field is read once, here, as its author meant it where that is certain; everything else is
refused. Whoever uses the content afterwards need not know that a file had ``"iscrowd": null``.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

# What is larger is no id and no place in an image, and overflows where arrays are made of it.
_LARGEST_ID = 2**63 - 1
_LARGEST_PIXEL = 10**9
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?\s*", re.ASCII)
_FLAGS = {"": 0, "0": 0, "1": 1, "false": 0, "true": 1, "none": 0, "null": 0}
_DONE = {
    "id": "{} annotations have no ids of their own above 0; all are numbered anew",
    "area": "{} annotations have no area; that of their boxes is taken",
    "ignore": "{} boxes are marked 'ignore' and taken for crowds: nobody trains on them or "
    "looks for them",
}


class Malformed(ValueError):
    """What is wrong with a content, as the end of a sentence about its file."""


class Normalised(NamedTuple):
    """What `normalise` did.

    Attributes:
        sentences: about each kind of thing that was read in another way than it is written.
        changed: whether a program that takes the file as it is reads anything else.
        completed: whether ``iscrowd`` was absent somewhere, which few programs need.
    """

    sentences: list[str]
    changed: bool
    completed: bool


def normalise(data: Any) -> Normalised:
    """Makes a content plain, in place.

    Afterwards ids, heights and widths are integers, names are texts; every annotation has an
    ``id`` of its own above 0, a ``bbox`` of four finite numbers, an ``area``, and ``iscrowd`` 0
    or 1; what is left of a ``segmentation`` has at least one polygon, or is an RLE.

    Args:
        data: of a JSON file, whatever that holds.

    Raises:
        Malformed: something in it has no certain meaning, or is missing.
    """
    _check_lists(data)
    # Shallow copies: what is changed is set anew.
    few = [dict(entry) for key in ("images", "categories") for entry in data[key]]
    images = _ids(data["images"], "images")
    categories = _ids(data["categories"], "categories")
    for index, image in enumerate(data["images"]):
        _normalise_image(image, f"images[{index}]")
    for category in data["categories"]:
        name = category.get("name")
        category["name"] = str(category["id"] if name is None else name)
    completed = any("iscrowd" not in annotation for annotation in data["annotations"])
    changed = few != data["images"] + data["categories"]
    done: Counter[str] = Counter()
    for index, annotation in enumerate(data["annotations"]):
        where, before = f"annotations[{index}]", {"iscrowd": 0, **annotation}
        _refer(annotation, "image", images, where)
        _refer(annotation, "category", categories, where)
        done.update(_normalise_object(annotation, where))
        changed |= before != annotation
    numbers = [annotation.get("id") for annotation in data["annotations"]]
    done["id"] = _number_anew(data["annotations"])
    changed |= numbers != [annotation["id"] for annotation in data["annotations"]]
    sentences = [text.format(done[kind]) for kind, text in _DONE.items() if done[kind]]
    return Normalised(sentences, changed, completed)


def whole(value: Any) -> int | None:
    """The integer that a value stands for, as ``3``, ``3.0`` and ``"3"`` do; None if for none."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,19}\s*", value, re.ASCII):
        value = int(value)
    number = real(value)
    if number is None or int(number) != number or abs(number) > _LARGEST_ID:
        return None
    return int(number)


def real(value: Any) -> int | float | None:
    """The finite number that a value stands for, as ``1.5`` and ``"1.5"`` do; None if for none."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # An integer may be too long for a float.
    return value if isinstance(value, int) or math.isfinite(value) else None


def flag(value: Any) -> int | None:
    """0 or 1 of what a value stands for, as null, true and ``"0"`` do; None if for neither."""
    if value is None or isinstance(value, bool):
        return int(bool(value))
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return int(value) if value in (0, 1) else None


def _check_lists(data: Any) -> None:
    if not isinstance(data, dict):
        raise Malformed(f"it holds a {type(data).__name__}, not an object")
    for key in ("images", "annotations", "categories"):
        entries = data.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise Malformed(f"'{key}' is not a list of objects")
    for key in ("images", "categories"):
        if not data[key]:
            raise Malformed(f"'{key}' is empty")


def _ids(entries: list[dict[str, Any]], key: str) -> set[int]:
    ids = set()
    for index, entry in enumerate(entries):
        number = whole(entry.get("id"))
        if number is None:
            raise Malformed(f"{key}[{index}] has no integer id")
        if number in ids:
            raise Malformed(f"{key}[{index}] repeats id {number}")
        ids.add(number)
        entry["id"] = number
    return ids


def _normalise_image(image: dict[str, Any], where: str) -> None:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise Malformed(f"{where} has no file_name")
    if "\0" in name:
        raise Malformed(f"{where} has file_name {name!r}, which no file can have")
    for side in ("height", "width"):
        pixels = whole(image.get(side))
        if pixels is None or not 0 < pixels < _LARGEST_PIXEL:
            raise Malformed(f"{where} has {side} {image.get(side)!r}")
        image[side] = pixels


def _refer(annotation: dict[str, Any], kind: str, ids: set[int], where: str) -> None:
    number = whole(annotation.get(f"{kind}_id"))
    if number not in ids:
        value = annotation.get(f"{kind}_id")
        raise Malformed(f"{where} has {kind}_id {value!r}, which no {kind} has")
    annotation[f"{kind}_id"] = number


def _normalise_object(annotation: dict[str, Any], where: str) -> list[str]:
    """Everything of an annotation but ids; returns keys of `_DONE`."""
    done = []
    box = _box(annotation.get("bbox"))
    if box is None:
        raise Malformed(
            f"{where} has bbox {annotation.get('bbox')!r}, which is not [x, y, width, height]"
        )
    annotation["bbox"] = box
    area = real(annotation.get("area"))
    # COCO has boxes without width or height, whose area is whatever it is.
    if area is None or area < 0 or (area == 0 and box[2] * box[3] > 0):
        annotation["area"] = box[2] * box[3]
        done.append("area")
    else:
        annotation["area"] = area
    flags = {key: flag(annotation.get(key)) for key in ("iscrowd", "ignore")}
    for key, value in flags.items():
        if value is None:
            raise Malformed(f"{where} has {key} {annotation[key]!r}, which is neither 0 nor 1")
    annotation["iscrowd"] = max(flags.values())
    # detectron2 refuses it, mmdet leaves the box out, and COCO's evaluation overwrites it.
    annotation.pop("ignore", None)
    if flags["ignore"] and not flags["iscrowd"]:
        done.append("ignore")
    _normalise_segmentation(annotation)
    return done


def _box(value: Any) -> list[int | float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    box = [real(number) for number in value]
    if any(number is None or abs(number) > _LARGEST_PIXEL for number in box):
        return None
    return box if box[2] >= 0 and box[3] >= 0 else None


def _normalise_segmentation(annotation: dict[str, Any]) -> None:
    """Takes out what is no outline; with it detectron2 would leave out the box too."""
    outline = annotation.get("segmentation")
    if isinstance(outline, Mapping):
        return
    if isinstance(outline, list):
        if outline and not isinstance(outline[0], list):
            outline = [outline]  # one polygon that is not in a list of its own
        polygons = [polygon for polygon in outline if _is_polygon(polygon)]
        if polygons:
            annotation["segmentation"] = polygons
            return
    annotation.pop("segmentation", None)


def _is_polygon(value: Any) -> bool:
    long_enough = isinstance(value, list) and len(value) % 2 == 0 and len(value) >= 6
    return long_enough and all(isinstance(n, int | float) and math.isfinite(n) for n in value)


def _number_anew(annotations: list[dict[str, Any]]) -> int:
    """Gives annotations ids from 1 if any has none; returns how many had none.

    No other part of a file refers to them, and to COCO's evaluation 0 is "not found".
    """
    numbers = [whole(annotation.get("id")) for annotation in annotations]
    sound = {number for number in numbers if number is not None and number > 0}
    anew = len(sound) < len(annotations)
    for position, (annotation, number) in enumerate(zip(annotations, numbers, strict=True), 1):
        annotation["id"] = position if anew else number
    return len(annotations) - len(sound)
