"""A dataset that the package makes: pictures, masks and boxes in a folder, whole or not at all."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynbackbones.demo.scenes import Scene
from dynbackbones.errors import UserError

_JPEG_QUALITY = 90
_REMEDY = "move it away, or set DETECTRON2_DATASETS to another folder"


def is_written(folder: Path, expected: Mapping[str, int], title: str = "the demo dataset") -> bool:
    """Whether the folder holds the expected dataset.

    Args:
        folder: where it would be.
        expected: what its ``meta.json`` says.
        title: what it is called in errors.

    Raises:
        UserError: it holds anything else.
    """
    if not folder.exists():
        return False
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        found = {key: meta[key] for key in expected}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is in the way of {title}: it has no valid meta.json; {_REMEDY}"
        ) from error
    if found != expected:
        raise UserError(
            f"{folder} holds another version of {title}: {_shown(found)} instead of "
            f"{_shown(expected)}; {_REMEDY}"
        )
    return True


def write_whole(
    folder: Path, meta: Mapping[str, int], write: Callable[[Path], None], title: str
) -> None:
    """Writes a dataset's folder under another name and renames it; several processes may.

    Args:
        folder: that appears.
        meta: what `is_written` asks for.
        write: fills the folder that it is given.
        title: what the dataset is called in errors.

    Raises:
        UserError: the folder cannot be written, or is something else by now.
    """
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        write(temporary)
        _write_json(temporary / "meta.json", dict(meta))
        _move(temporary, folder, meta, title)
    except OSError as error:
        raise UserError(
            f"{title} cannot be written to {folder}: {error.strerror or error}; "
            "set DETECTRON2_DATASETS to a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_split(
    folder: Path,
    split: str,
    scenes: Iterable[Scene],
    chosen: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
) -> None:
    """Writes one split's images, masks, boxes and labels.

    Args:
        folder: of the dataset.
        split: such as ``"train"``.
        scenes: the pictures in order.
        chosen: number of each sample that the scenes' digits count from.
        labels: class of each sample, by its number.
        classes: names of the classes.
    """
    from PIL import Image

    for path in (folder / split, folder / "masks" / split, folder / "annotations"):
        path.mkdir(parents=True, exist_ok=True)
    images, annotations, shown = [], [], {}
    for index, scene in enumerate(scenes):
        name = f"{index:06d}"
        Image.fromarray(scene.image).save(folder / split / f"{name}.jpg", quality=_JPEG_QUALITY)
        Image.fromarray(scene.mask).save(folder / "masks" / split / f"{name}.png")
        height, width = scene.mask.shape
        images.append(
            {"id": index + 1, "file_name": f"{name}.jpg", "height": height, "width": width}
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
        for index, name in enumerate(classes)
    ]
    _write_json(
        folder / "annotations" / f"instances_{split}.json",
        {"images": images, "annotations": annotations, "categories": categories},
    )
    _write_json(folder / f"labels_{split}.json", {"classes": classes, "labels": shown})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _move(temporary: Path, folder: Path, meta: Mapping[str, int], title: str) -> None:
    """Puts the finished folder in place, unless another process was first."""
    try:
        temporary.rename(folder)
    except OSError:
        if not is_written(folder, meta, title):
            raise


def _shown(meta: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in meta.items())
