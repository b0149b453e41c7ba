"""Both passes over images, kept in files: from them any selection of patches can be evaluated."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dynbackbones import checkpoints
from dynbackbones.checkpoints.whole_file import write_json
from dynbackbones.errors import UserError
from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.detector import ZoomDetector
from dynbackbones.zoom.gains import detection_gains
from dynbackbones.zoom.images import ImageSource
from dynbackbones.zoom.learned import describe
from dynbackbones.zoom.merge_boxes import MergeRules, merge_boxes
from dynbackbones.zoom.policies import POLICIES

_SETTINGS = "settings.json"
_ANEW = "remove its folder, and measure anew with dynbackbones zoom gains"


@dataclass(frozen=True)
class TrueImage:
    """An image with what is to be found in it.

    Attributes:
        number: its id in the dataset.
        image: as the detector takes it.
        truth: objects; labels as the detector counts them, scores unused.
    """

    number: int
    image: Tensor | ImageSource
    truth: Boxes


@dataclass(frozen=True)
class Measured:
    """What both passes found in an image.

    Attributes:
        number: the image's id.
        grid: its patches.
        coarse: of the reduced image, in pixels of the image.
        fine: of the crop of each patch, in pixels of the image.
        described: (P, D) of `describe`.
        values: (P,) of each policy that needs no training.
        gains: (P,) of `detection_gains`.
    """

    number: int
    grid: PatchGrid
    coarse: Boxes
    fine: dict[int, Boxes]
    described: Tensor
    values: dict[str, Tensor]
    gains: Tensor

    def merged(self, chosen: Iterable[int], rules: MergeRules) -> Boxes:
        """Detections if these patches are looked at closely."""
        return merge_boxes(self.coarse, {p: self.fine[p] for p in chosen}, self.grid, rules)


def measure(zoom: ZoomDetector, sample: TrueImage) -> Measured:
    """Runs both passes over an image, and the fine one over every patch."""
    coarse, _ = zoom.looks(sample.image)
    fine = {patch: found.cpu() for patch, found in zoom.closely(sample.image).items()}
    values = {name: policy(coarse).cpu() for name, policy in POLICIES.items()}
    described = describe(coarse, zoom.adapter.num_classes).detach().cpu()
    boxes = coarse.boxes.cpu()
    truth = sample.truth
    gains = detection_gains(boxes, fine, coarse.grid, truth, zoom.rules.handover)
    return Measured(sample.number, coarse.grid, boxes, fine, described, values, gains)


def measure_all(
    zoom: ZoomDetector,
    numbers: Sequence[int],
    load: Callable[[int], TrueImage],
    folder: str | os.PathLike,
    settings: Mapping[str, Any],
    progress: Callable[[Sequence[int], int], Iterable[int]],
) -> list[Measured]:
    """Measures the images that a folder does not have yet, and returns all of them.

    Args:
        zoom: the wrapped detector.
        numbers: ids of the images.
        load: an image by its id.
        folder: for a file of each image.
        settings: all that the figures depend on, as plain data.
        progress: wraps the images to do; given their number too.

    Raises:
        UserError: the folder holds figures of other weights, data or settings.
    """
    folder = Path(folder)
    _claim(folder, dict(settings))
    todo = [number for number in numbers if not _file(folder, number).is_file()]
    for number in progress(todo, len(todo)):
        _save(measure(zoom, load(number)), _file(folder, number))
    return [_load(_file(folder, number)) for number in numbers]


def read_all(
    folder: str | os.PathLike, expected: Mapping[str, Any], remedy: str
) -> tuple[list[Measured], dict[str, Any]]:
    """What a folder of `measure_all` holds, and its settings.

    Raises:
        UserError: there is none, or it is of other settings than ``expected``.
    """
    folder = Path(folder)
    if not (folder / _SETTINGS).is_file():
        raise UserError(f"{folder} has no measured gains; {remedy}")
    _claim(folder, dict(expected))
    files = sorted(folder.glob("*.pth"))
    if not files:
        raise UserError(f"{folder} has no measured gains yet; {remedy}")
    return [_load(file) for file in files], _settings(folder / _SETTINGS)


def digest(path: str | os.PathLike) -> str:
    """Of a file's content, to tell weights and annotations from others of the same name."""
    found = hashlib.blake2b(digest_size=8)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / _SETTINGS
    if path.is_file():
        there = _settings(path)
        for name, value in settings.items():
            if there.get(name) != value:
                raise UserError(
                    f"{folder} holds what was measured with {name} {there.get(name)}, not {value}; "
                    "name another folder, or remove it"
                )
        return
    write_json(path, settings, indent=2)


def _settings(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); {_ANEW}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings of what was measured; {_ANEW}")
    return content


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.pth"


def _save(measured: Measured, path: Path) -> None:
    grid = measured.grid
    tensors = {"described": measured.described, "gains": measured.gains}
    tensors |= {f"values.{name}": value for name, value in measured.values.items()}
    for name, boxes in [("coarse", measured.coarse), *_named(measured.fine)]:
        for part in ("boxes", "scores", "labels"):
            tensors[f"{name}.{part}"] = getattr(boxes, part)
    meta = {"number": measured.number, "grid": [list(grid.size), grid.edge, grid.halo]}
    checkpoints.save(path, tensors, meta)


def _named(fine: Mapping[int, Boxes]) -> Iterator[tuple[str, Boxes]]:
    for patch, boxes in fine.items():
        yield f"fine.{patch}", boxes


def _load(path: Path) -> Measured:
    content = checkpoints.load(path)
    try:
        return _measured(content["model"], content["meta"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not what both passes found in an image (it lacks or has {error}); remove "
            "it, and measure anew with dynbackbones zoom gains"
        ) from error


def _measured(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Measured:
    size, edge, halo = meta["grid"]
    grid = PatchGrid(tuple(size), edge, halo)

    def boxes(name: str) -> Boxes:
        return Boxes(*(tensors[f"{name}.{part}"] for part in ("boxes", "scores", "labels")))

    return Measured(
        meta["number"],
        grid,
        boxes("coarse"),
        {patch: boxes(f"fine.{patch}") for patch in range(len(grid))},
        tensors["described"],
        {name: tensors[f"values.{name}"] for name in POLICIES},
        tensors["gains"],
    )
