"""Runs a detector over a dataset and records where its backbone refined, or what blocks it ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dynbackbones.analysis.costs import DecisionMeter
from dynbackbones.analysis.coverage import RegionCoverage, resize_boxes
from dynbackbones.analysis.pictures import PictureRow
from dynbackbones.analysis.prediction import Prediction
from dynbackbones.analysis.rates_by_objects import RatesByObjects
from dynbackbones.analysis.usage import UsageTable
from dynbackbones.data import coco
from dynbackbones.data.coco import CocoSource


class Predictor(Protocol):
    """What `survey` asks of an engine's predictor."""

    def predict(self, image: np.ndarray) -> Prediction:
        """Detects objects in an (H, W, 3) uint8 RGB image."""


@dataclass(frozen=True)
class Sample:
    """An image of a dataset with its ground truth.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        boxes: (n, 4) objects, ``x1, y1, x2, y2`` in pixels of ``image``; crowds are objects too.
        name: file name.
    """

    image: np.ndarray
    boxes: Tensor
    name: str


class CocoSamples:
    """The images of a COCO-format dataset in the order of their ids, read one at a time.

    Args:
        source: the dataset.
        content: of its annotation file, from `dynbackbones.data.coco.check`.
        limit: leave out all but the first images.

    Attributes:
        class_names: by contiguous label, in the order of the category ids.
        pixels: the images' pixels alone, (H, W, 3) uint8, RGB; read when they are asked for.
    """

    def __init__(
        self, source: CocoSource, content: dict[str, Any], limit: int | None = None
    ) -> None:
        self._images = sorted(content["images"], key=lambda image: image["id"])[:limit]
        self.pixels = _Pixels(
            [
                (source.images / image["file_name"], (image["width"], image["height"]))
                for image in self._images
            ]
        )
        self.class_names = list(coco.class_names(content))
        self._boxes: dict[int, list[list[float]]] = {image["id"]: [] for image in self._images}
        for annotation in content["annotations"]:
            if annotation["image_id"] in self._boxes:
                x, y, width, height = annotation["bbox"]
                self._boxes[annotation["image_id"]].append([x, y, x + width, y + height])

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Sample]:
        for image, pixels in zip(self._images, self.pixels, strict=True):
            boxes = torch.tensor(self._boxes[image["id"]], dtype=torch.float32).reshape(-1, 4)
            yield Sample(pixels, boxes, image["file_name"])


class _Pixels(Sequence):
    """Images of files and the (width, height) that they should have, one at a time in memory."""

    def __init__(self, files: Sequence[tuple[Path, tuple[int, int]]]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(coco.read_image(*self._files[index]))


@dataclass
class Survey:
    """What a detector did on a dataset.

    Attributes:
        coverage: refined cells against objects.
        usage: blocks that ran; empty for a network that does not choose them.
        rows: the first images that show an object, for a picture.
        meter: of what the backbone chose and spent.
        objects: number of objects of each image that the meter has seen.
    """

    coverage: RegionCoverage = field(default_factory=RegionCoverage)
    usage: UsageTable = field(default_factory=UsageTable)
    rows: list[PictureRow] = field(default_factory=list)
    meter: DecisionMeter = field(default_factory=DecisionMeter)
    objects: list[int] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """Means over the images, see `DecisionMeter.result`."""
        return self.meter.headline()

    def rates_by_objects(self) -> RatesByObjects | None:
        """How rates go with the number of objects; None for a network that decides nothing."""
        spread = self.meter.spread()
        if spread is None:
            return None
        return RatesByObjects(spread.name, self.objects, spread.rates.tolist())

    def to_dict(self) -> dict:
        """All figures, for JSON."""
        parts = {"rates": self.meter.spread(), "rates_by_objects": self.rates_by_objects()}
        if self.chose_blocks:
            parts["blocks"] = self.usage
        figures = {name: part.to_dict() for name, part in parts.items() if part is not None}
        return {**self.coverage.to_dict(), **figures, "backbone": self.means()}

    @property
    def chose_blocks(self) -> bool:
        """Whether the backbone chooses blocks."""
        return bool(self.usage.block_names)


def survey(predictor: Predictor, samples: Iterable[Sample], *, num_rows: int = 4) -> Survey:
    """Runs a predictor over images.

    Args:
        predictor: of an engine's ``load_predictor``.
        samples: the images.
        num_rows: how many of them to keep for a picture; images without objects are kept only
            where there are not enough others.
    """
    result, spare = Survey(), []
    for sample in samples:
        prediction = predictor.predict(sample.image)
        boxes = resize_boxes(sample.boxes, sample.image.shape[:2], prediction.input_size)
        result.coverage.update(prediction.decisions, [boxes])
        if prediction.decisions is not None:
            if prediction.decisions.blocks() is not None:
                result.usage.update(prediction.decisions)
            result.meter.update(prediction.decisions)
            result.objects.append(len(boxes))
        kept = result.rows if len(boxes) else spare
        if len(kept) < num_rows:
            kept.append(PictureRow(sample.image, prediction, sample.boxes, sample.name))
    result.rows += spare[: num_rows - len(result.rows)]
    return result
