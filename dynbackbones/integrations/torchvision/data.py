"""COCO-format images and boxes for the torchvision engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.utils.data import Dataset

from dynbackbones.data import coco
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import num_classes
from dynbackbones.integrations.datasets import find_dataset, no_boxes

if TYPE_CHECKING:
    from PIL.Image import Image

# Keeps the augmentation apart from other random numbers drawn from the same seed.
_AUGMENT = 2


@dataclass(frozen=True)
class Sizes:
    """How images are resized: the short side to one of ``short``, the long side at most ``long``.

    Attributes:
        short: pixels to choose from, or (lowest, highest) where ``ranged``; 0 keeps the size.
        long: pixels.
        ranged: draw from the range that ``short`` gives.
    """

    short: Sequence[int]
    long: int
    ranged: bool = False

    def draw(self, random: np.random.Generator) -> int:
        """A short side."""
        if self.ranged:
            return int(random.integers(self.short[0], self.short[1] + 1))
        return int(self.short[random.integers(len(self.short))])


def resized(size: tuple[int, int], short: int, long: int) -> tuple[int, int]:
    """(height, width) after resizing, rounded as detectron2 does it.

    Args:
        size: (height, width) of the image.
        short: wanted length of the short side; 0 keeps the size.
        long: upper limit of the long side, which prevails.
    """
    if short == 0:
        return size
    scale = min(short / min(size), long / max(size))
    height, width = (int(length * scale + 0.5) for length in size)
    return max(height, 1), max(width, 1)


def to_tensor(image: Image, size: tuple[int, int], channels: str, *, flip: bool = False) -> Tensor:
    """A network's input from an RGB image: uint8, (3, height, width).

    Args:
        image: of Pillow, mode RGB.
        size: (height, width) to resize to, bilinear.
        channels: ``"RGB"`` or ``"BGR"``.
        flip: mirror left and right.
    """
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), resample=2)  # Pillow's BILINEAR
    array = np.asarray(image)
    if channels == "BGR":
        array = array[:, :, ::-1]
    if flip:
        array = array[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


class CocoDetection(Dataset):
    """Images of one or more COCO-format datasets with the same categories.

    Args:
        sources: where they lie.
        num_classes: number of categories that the model knows.
        sizes: how images are resized.
        channels: ``"RGB"`` or ``"BGR"``.
        train: augment, and take (draw, index) instead of an index.
        flip: mirror every other image (training).
        drop_empty: leave out images without boxes (training).
        seed: of the augmentation.
        classes: what the model takes its labels for; None to learn it from the first dataset.

    Attributes:
        annotations: content of the first annotation file, for evaluation.
        category_ids: its category id of each contiguous class, from 0.
        classes: names of the classes, and which dataset has them.
        metainfo: names of the datasets and of the classes, which mmengine keeps in checkpoints.
        wide: (length,) 1 for images wider than high, 0 for others.

    Raises:
        UserError: see `dynbackbones.data.coco.check`; or no image is left.
    """

    def __init__(
        self,
        sources: Sequence[coco.CocoSource],
        num_classes: int,
        sizes: Sizes,
        channels: str,
        *,
        train: bool = False,
        flip: bool = False,
        drop_empty: bool = False,
        seed: int = 0,
        classes: coco.Classes | None = None,
    ) -> None:
        self.sizes = sizes
        self.channels = channels
        self.train = train
        self.flip = flip
        self.seed = seed
        self._images: list[tuple[Path, int, int, int]] = []  # path, id, height, width
        boxes: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for position, source in enumerate(sources):
            content = coco.check(source, num_classes, classes)
            category_ids = sorted(category["id"] for category in content["categories"])
            if classes is None:
                classes = coco.Classes(coco.class_names(content), source.name)
            if position == 0:
                self.annotations, self.category_ids, self.classes = content, category_ids, classes
            found = _boxes_by_image(content, category_ids)
            for image in content["images"]:
                image_boxes, image_labels = found.get(image["id"], _NOTHING)
                if drop_empty and len(image_boxes) == 0:
                    continue
                path = source.images / image["file_name"]
                self._images.append((path, image["id"], image["height"], image["width"]))
                boxes.append(image_boxes)
                labels.append(image_labels)
        self.metainfo = {
            "datasets": tuple(source.name for source in sources),
            "classes": self.classes.names,
        }
        if not self._images:
            raise no_boxes(source.name for source in sources)
        # Few large arrays: worker processes share their memory, that of many small ones not.
        self._starts = np.cumsum([0, *map(len, boxes)])
        self._boxes = np.concatenate(boxes)
        self._labels = np.concatenate(labels)
        self.wide = np.array([width > height for _, _, height, width in self._images], dtype=int)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """One example.

        Args:
            key: the index; in training (draw, index), where the draw decides the augmentation.

        Returns:
            ``image`` (3, h, w) uint8, and ``target``: ``boxes`` (n, 4) float32 in pixels of the
            resized image, ``labels`` (n,) int64 from 1 (torchvision's 0 is the background),
            ``image_id``, and ``original_size`` (height, width).

        Raises:
            UserError: the image cannot be read, or has another size than the annotations say.
        """
        draw, index = key if self.train else (0, key)
        path, image_id, height, width = self._images[index]
        image = coco.read_image(path, (width, height))
        random = np.random.default_rng((self.seed, _AUGMENT, draw))
        short = self.sizes.draw(random)
        flip = self.train and self.flip and bool(random.random() < 0.5)
        size = resized((height, width), short, self.sizes.long)
        boxes, labels = self._boxes_of(index, (height, width), size, flip)
        return {
            "image": to_tensor(image, size, self.channels, flip=flip),
            "target": {
                "boxes": torch.from_numpy(boxes),
                "labels": torch.from_numpy(labels),
                "image_id": image_id,
                "original_size": (height, width),
            },
        }

    def _boxes_of(
        self, index: int, before: tuple[int, int], after: tuple[int, int], flip: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and labels of an image in pixels of the resized, perhaps mirrored image."""
        rows = slice(self._starts[index], self._starts[index + 1])
        scale = np.array([after[1] / before[1], after[0] / before[0]] * 2)
        boxes = self._boxes[rows] * scale
        limit = np.array([after[1], after[0]] * 2, dtype=float)
        boxes = np.clip(boxes, 0, limit)
        if flip:
            boxes[:, [0, 2]] = after[1] - boxes[:, [2, 0]]
        boxes = boxes.astype(np.float32)
        # Boxes of no size, which COCO has, are nothing that a detector could be trained on.
        kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return boxes[kept], self._labels[rows][kept] + 1


def collate(examples: Sequence[dict[str, Any]]) -> dict[str, list]:
    """A batch as torchvision's detectors take it: lists, since sizes differ."""
    return {
        "images": [example["image"] for example in examples],
        "targets": [example["target"] for example in examples],
    }


def training_set(cfg: CfgNode, seed: int, classes: coco.Classes | None = None) -> CocoDetection:
    """The datasets of ``DATASETS.TRAIN`` as one.

    Args:
        cfg: of the run.
        seed: of the augmentation.
        classes: of the run before, if it is continued.

    Raises:
        UserError: see `CocoDetection`, or there is none.
    """
    if not cfg.DATASETS.TRAIN:
        raise UserError("DATASETS.TRAIN names no dataset to train on")
    return CocoDetection(
        [find_dataset(cfg, name) for name in cfg.DATASETS.TRAIN],
        num_classes(cfg),
        Sizes(
            cfg.INPUT.MIN_SIZE_TRAIN,
            cfg.INPUT.MAX_SIZE_TRAIN,
            cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range",
        ),
        cfg.INPUT.FORMAT,
        train=True,
        flip=cfg.INPUT.RANDOM_FLIP == "horizontal",
        drop_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        seed=seed,
        classes=classes,
    )


def evaluation_set(cfg: CfgNode, classes: coco.Classes | None) -> CocoDetection | None:
    """The dataset of ``DATASETS.TEST``; None where it names none.

    Args:
        cfg: of the run.
        classes: of the training set or the weights, if they are known.

    Raises:
        UserError: see `CocoDetection`.
    """
    if not cfg.DATASETS.TEST:
        return None
    return CocoDetection(
        [find_dataset(cfg, name) for name in cfg.DATASETS.TEST],
        num_classes(cfg),
        Sizes((cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST),
        cfg.INPUT.FORMAT,
        classes=classes,
    )


_NOTHING = (np.zeros((0, 4)), np.zeros(0, dtype=np.int64))


def _boxes_by_image(
    content: Mapping[str, Any], category_ids: Sequence[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Image id to boxes (n, 4), corners in pixels, and contiguous classes (n,) from 0.

    Boxes around crowds are left out: a detector is not trained on them, and the evaluation reads
    them from the annotation file.
    """
    classes = {category: label for label, category in enumerate(category_ids)}
    found: dict[int, tuple[list, list]] = {}
    for annotation in content["annotations"]:
        if annotation["iscrowd"]:
            continue
        x, y, width, height = annotation["bbox"]
        boxes, labels = found.setdefault(annotation["image_id"], ([], []))
        boxes.append((x, y, x + width, y + height))
        labels.append(classes[annotation["category_id"]])
    return {
        image: (np.array(boxes, dtype=float), np.array(labels, dtype=np.int64))
        for image, (boxes, labels) in found.items()
    }
