"""Images of a YAML config's datasets as its detector takes them, at their own resolution."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode

from dynbackbones.data import coco
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import num_classes
from dynbackbones.integrations.datasets import classes_of_weights, find_dataset
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.measured import TrueImage


class ZoomData:
    """A dataset at its own resolution.

    Args:
        cfg: the config.
        name: of the dataset.
        first_label: of the detector's labels, 0 or 1.
        limit: leave out all but the first images.

    Attributes:
        annotations: content of its annotation file, of the images that are left.
        numbers: their ids.
        category_ids: of each class.
        class_names: of each class.
        source: its files.

    Raises:
        UserError: see `dynbackbones.data.coco.check`.
    """

    def __init__(
        self, cfg: CfgNode, name: str, first_label: int, limit: int | None = None
    ) -> None:
        self.name = name
        self.source = find_dataset(cfg, name)
        content = coco.check(
            self.source, num_classes(cfg), classes_of_weights(cfg, cfg.MODEL.WEIGHTS)
        )
        images = sorted(content["images"], key=lambda image: image["id"])[:limit]
        self._images = {image["id"]: image for image in images}
        self.numbers = list(self._images)
        kept = [a for a in content["annotations"] if a["image_id"] in self._images]
        self._objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in kept:
            if not annotation.get("iscrowd", 0):
                self._objects[annotation["image_id"]].append(annotation)
        self.annotations = {
            **content, "images": images, "annotations": kept
        }  # fmt: skip
        self.category_ids = sorted(category["id"] for category in content["categories"])
        self.class_names = list(coco.class_names(content))
        self._first = first_label
        self._bgr = cfg.INPUT.FORMAT == "BGR"

    def pixels(self, number: int) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        image = self._images[number]
        path = self.source.images / image["file_name"]
        return np.asarray(coco.read_image(path, (image["width"], image["height"])))

    def load(self, number: int) -> TrueImage:
        """An image by its id, with its objects; crowds are none."""
        array = self.pixels(number)
        array = array[:, :, ::-1] if self._bgr else array
        tensor = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
        found = self._objects[number]
        boxes = torch.tensor([a["bbox"] for a in found], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [self.category_ids.index(a["category_id"]) + self._first for a in found]
        truth = Boxes(boxes, torch.ones(len(found)), torch.tensor(labels, dtype=torch.int64))
        return TrueImage(number, tensor, truth)

    def detections(self, number: int, found: Boxes) -> list[dict[str, Any]]:
        """In COCO's result format."""
        found = found.cpu()
        sizes = found.boxes[:, 2:] - found.boxes[:, :2]
        boxes = torch.cat([found.boxes[:, :2], sizes], dim=1)
        return [
            {
                "image_id": number,
                "bbox": box.tolist(),
                "score": float(score),
                "category_id": self.category_ids[int(label) - self._first],
            }
            for box, score, label in zip(boxes, found.scores, found.labels, strict=True)
        ]


def read_pixels(path: Path) -> np.ndarray:
    """An image file: (H, W, 3) uint8, RGB.

    Raises:
        UserError: it is none.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; name image files")
    return np.asarray(coco.read_image(path))


def refuse_overlap(one: ZoomData, others: Sequence[ZoomData], why: str) -> None:
    """Refuses data with pictures that others have too.

    Raises:
        UserError: there are some; the first is named.
    """
    own = {(one.source.images / image["file_name"]).resolve() for image in one._images.values()}
    for other in others:
        shared = own & {
            (other.source.images / image["file_name"]).resolve() for image in other._images.values()
        }
        if shared:
            raise UserError(
                f"{one.name} and {other.name} have {len(shared)} images in common, such as "
                f"{min(shared)}: {why}"
            )
