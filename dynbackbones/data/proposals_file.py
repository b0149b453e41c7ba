"""Files of proposals: COCO's format of results, which detectors and this package write."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynbackbones.checkpoints.whole_file import write_json
from dynbackbones.data.annotations import real
from dynbackbones.data.images import image_files, image_size, leaves
from dynbackbones.data.proposals import Proposals
from dynbackbones.errors import UserError

_logger = logging.getLogger(__name__)
# Share of the boxes beyond the image from which x and y of a far corner were probably written.
_SUSPICIOUS = 0.2
# Rounding puts a box so far beyond the border, in pixels.
_SLACK = 1.5


def write_proposals(path: str | os.PathLike, proposals: Mapping[str, Proposals]) -> None:
    """Writes boxes as COCO's results, whole or not at all.

    Args:
        path: of the JSON file.
        proposals: for each image's name, relative to its folder.

    Raises:
        UserError: nothing can be written there.
    """
    entries = [
        {
            "file_name": name,
            "bbox": [round(float(v), 1) for v in (box[0], box[1], *(box[2:] - box[:2]))],
            "score": round(float(score), 5),
        }
        for name, found in proposals.items()
        for box, score in zip(found.boxes, found.scores, strict=True)
    ]
    write_json(path, entries)


def read_proposals(
    path: str | os.PathLike, root: str | os.PathLike, names: Sequence[str] | None = None
) -> dict[str, Proposals]:
    """Reads boxes of the images in a folder.

    Boxes are cut at the image's border; what is empty then is left out, with a warning.

    Args:
        path: JSON in COCO's format of results, a list of ``{"file_name" or "image_id", "bbox":
            [x, y, width, height], "score"}``. An ``image_id`` is a file's name without its suffix,
            or the number that this is; ``score`` is 1 where it is absent. Or a file of COCO's
            instances, whose boxes are taken and whose labels are not.
        root: the folder.
        names: of the images in it, if they are known; as `image_files` finds them.

    Returns:
        For each image's name, relative to the folder, its boxes, the best first.

    Raises:
        UserError: the file is missing or malformed, of other images, or its boxes are not where
            the images are.
    """
    entries = _entries(Path(path))
    root = Path(root)
    known = _Names(Path(path), root, image_files(root) if names is None else names)
    boxes: dict[str, list[list[float]]] = {}
    absent = []
    for index, entry in enumerate(entries):
        box, score = _read(entry, f"proposals {path}: entry {index}")
        name = known.of(entry, index)
        if name is None:
            absent.append(entry)
            continue
        boxes.setdefault(name, []).append([*box, score])
    if not boxes:
        raise UserError(
            f"proposals {path} are of none of the images in {root}: the first is of "
            f"{_called(entries[0])}, and the first image is {known.first}; name the folder that "
            "they were made for"
        )
    if absent:
        _logger.warning(
            f"proposals {path}: {len(absent)} of {len(entries)} are of images that are not in "
            f"{root}, the first of {_called(absent[0])}; they are left out"
        )
    return _cut(boxes, path, root)


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(
            f"proposals {path} cannot be read ({error.strerror}); write them with dynbackbones "
            "make-proposals"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"proposals {path} are not JSON ({error}); write them anew") from error
    if isinstance(data, dict) and isinstance(data.get("annotations"), list):
        images = {
            image.get("id"): image.get("file_name")
            for image in data.get("images") or ()
            if isinstance(image, dict)
        }
        data = [
            {"file_name": images.get(one.get("image_id")), "bbox": one.get("bbox")}
            for one in data["annotations"]
            if isinstance(one, dict)
        ]
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise UserError(
            f"proposals {path} hold a {type(data).__name__}, not a list of "
            '{"file_name": ..., "bbox": [x, y, width, height], "score": ...}'
        )
    if not data:
        raise UserError(f"proposals {path} are empty; write them anew")
    return data


def _read(entry: Mapping[str, Any], where: str) -> tuple[list[float], float]:
    box = entry.get("bbox")
    numbers = [real(value) for value in box] if isinstance(box, list) else []
    if len(numbers) != 4 or None in numbers or min(numbers[2:]) < 0:
        raise UserError(f"{where} has bbox {box!r}, which is not [x, y, width, height]")
    score = real(entry.get("score", 1.0))
    if score is None:
        raise UserError(f"{where} has score {entry['score']!r}, which is not a number")
    x, y, width, height = map(float, numbers)
    return [x, y, x + width, y + height], float(score)


class _Names:
    """The images of a folder, by all that a file may call them."""

    def __init__(self, path: Path, root: Path, names: Sequence[str]) -> None:
        self._path, self._root = path, root
        self.first = names[0]
        self._known = set(names)
        self._by_stem: dict[Any, str | None] = {}
        for name in names:
            stem = Path(name).stem
            for key in {stem, int(stem) if stem.isdecimal() else stem}:
                # Two files with one stem: nothing says which.
                self._by_stem[key] = None if key in self._by_stem else name

    def of(self, entry: Mapping[str, Any], index: int) -> str | None:
        """The name of an entry's image; None if it is not in the folder."""
        name = entry.get("file_name")
        if name is None:
            key = entry.get("image_id")
            return self._by_stem.get(key) if isinstance(key, str | int) else None
        if not isinstance(name, str) or leaves(self._root, name):
            raise UserError(
                f"proposals {self._path}: entry {index} has file_name {name!r}, which is not in "
                f"{self._root}; name images relative to the folder"
            )
        name = name.replace("\\", "/")
        return name if name in self._known else None


def _called(entry: Mapping[str, Any]) -> str:
    return repr(entry.get("file_name", entry.get("image_id")))


def _cut(
    boxes: Mapping[str, list[list[float]]], path: str | os.PathLike, root: Path
) -> dict[str, Proposals]:
    found, total, beyond, empty = {}, 0, 0, 0
    example = ""
    for name, rows in boxes.items():
        table = np.array(sorted(rows, key=lambda row: -row[4]), np.float64)
        width, height = image_size(root / name)
        limit = np.array([width, height, width, height], np.float64)
        outside = ((table[:, :4] < -_SLACK) | (table[:, :4] > limit + _SLACK)).any(axis=1)
        if outside.any() and not example:
            x, y, *far = table[outside][0, :4]
            box = [x, y, far[0] - x, far[1] - y]
            example = f"{[round(float(v), 1) for v in box]} in {name}, {width} x {height} pixels"
        table[:, :4] = np.clip(table[:, :4], 0, limit)
        whole = (table[:, 2:4] - table[:, :2] >= 1).all(axis=1)
        total, beyond, empty = (
            total + len(table),
            beyond + int(outside.sum()),
            empty + int((~whole).sum()),
        )
        found[name] = Proposals(
            table[whole, :4].astype(np.float32), table[whole, 4].astype(np.float32)
        )
    if beyond > _SUSPICIOUS * total:
        raise UserError(
            f"proposals {path}: {beyond} of {total} boxes reach beyond their images, the first is "
            f"{example}; bbox is [x, y, width, height] in pixels of the upright image, not two "
            "corners"
        )
    if empty:
        _logger.warning(
            f"proposals {path}: {empty} of {total} boxes have no pixel in their images; "
            "they are left out"
        )
    return found
