"""Clips with labels, on which schedules of key frames are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynbackbones.analysis.average_precision import evaluate_boxes
from dynbackbones.analysis.prediction import Prediction
from dynbackbones.video.agreement_measure import box_agreement
from dynbackbones.zoom.segmentation_gains import confusion, mean_iou


class LabelledClip(ABC):
    """Frames of one video with what is to be found in each.

    Attributes:
        frames: (H, W, 3) uint8 RGB, of one size, in their order.
        metric: what `score` is called.
    """

    metric: str

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        self.frames = frames

    @abstractmethod
    def outcome(self, index: int, result: Any) -> Any:
        """What is kept of a model's result for a frame: enough for `error` and `score`."""

    @abstractmethod
    def error(self, index: int, outcome: Any) -> float:
        """How wrong an outcome is, for the oracle, which adds errors up."""

    @abstractmethod
    def score(self, outcomes: Mapping[int, Any]) -> float:
        """The metric over frames, by their numbers; in percent, the higher the better."""


class SegmentationClip(LabelledClip):
    """Frames with a label map each.

    Args:
        frames: see `LabelledClip`.
        truth: (H, W) integers of each; 255 is ignored.
        classes: number of classes.
        labels_of: (H, W) labels in a model's result.
    """

    metric = "mIoU"

    def __init__(
        self,
        frames: Sequence[np.ndarray],
        truth: Sequence[Tensor],
        classes: int,
        labels_of: Callable[[Any], Tensor],
    ) -> None:
        super().__init__(frames)
        self._truth, self._classes, self._labels_of = truth, classes, labels_of

    def outcome(self, index: int, result: Any) -> Tensor:
        """(classes, classes) pixels by true and given label."""
        return confusion(self._labels_of(result), self._truth[index], self._classes)

    def error(self, index: int, outcome: Tensor) -> float:
        total = int(outcome.sum())
        return 1 - int(outcome.diagonal().sum()) / total if total else 0.0

    def score(self, outcomes: Mapping[int, Tensor]) -> float:
        """As ``dynbackbones test`` has it, pixels of all frames; see `mean_iou`."""
        return mean_iou(torch.stack(list(outcomes.values())).sum(dim=0))


class DetectionClip(LabelledClip):
    """Frames with boxes, in COCO's form.

    Args:
        frames: see `LabelledClip`.
        annotations: content of an annotation file, of these frames alone.
        image_ids: of each frame.
        categories: dataset category id of each label.
    """

    metric = "AP"

    def __init__(
        self,
        frames: Sequence[np.ndarray],
        annotations: Mapping[str, Any],
        image_ids: Sequence[int],
        categories: Sequence[int],
    ) -> None:
        super().__init__(frames)
        self._annotations, self._ids, self._categories = annotations, image_ids, categories
        self._truth = [self._true_boxes(image) for image in image_ids]

    def outcome(self, index: int, result: Prediction) -> Prediction:
        return result

    def error(self, index: int, outcome: Prediction) -> float:
        return 1 - box_agreement(outcome, self._truth[index])

    def score(self, outcomes: Mapping[int, Prediction]) -> float:
        """COCO's average precision over these frames."""
        chosen = {self._ids[index] for index in outcomes}
        truth = {
            **self._annotations,
            "images": [one for one in self._annotations["images"] if one["id"] in chosen],
            "annotations": [
                one for one in self._annotations["annotations"] if one["image_id"] in chosen
            ],
        }
        found = [entry for index, one in outcomes.items() for entry in self._entries(index, one)]
        return evaluate_boxes(truth, found)["AP"] or 0.0

    def _entries(self, index: int, found: Prediction) -> list[dict[str, Any]]:
        x1, y1, x2, y2 = found.boxes.unbind(dim=1)
        boxes = torch.stack([x1, y1, x2 - x1, y2 - y1], dim=1).tolist()
        rows = zip(boxes, found.scores.tolist(), found.labels.tolist(), strict=True)
        return [
            {
                "image_id": self._ids[index],
                "category_id": self._categories[label],
                "bbox": box,
                "score": score,
            }
            for box, score, label in rows
        ]

    def _true_boxes(self, image: int) -> Prediction:
        own = [one for one in self._annotations["annotations"] if one["image_id"] == image]
        boxes = torch.tensor([one["bbox"] for one in own]).reshape(-1, 4)
        boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
        labels = [self._categories.index(one["category_id"]) for one in own]
        return Prediction(boxes, torch.ones(len(own)), torch.tensor(labels), (1, 1))
