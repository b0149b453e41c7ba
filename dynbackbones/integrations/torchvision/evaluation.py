"""COCO average precision, and what the backbone cost per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from dynbackbones.analysis.average_precision import evaluate_boxes as evaluate_boxes
from dynbackbones.analysis.costs import DecisionMeter


class DetectionMetric(BaseMetric):
    """Average precision and backbone cost over a dataset, gathered from all processes.

    Args:
        annotations: content of the dataset's COCO annotation file.
        category_ids: the dataset's category id of each contiguous class.
    """

    default_prefix = ""
    """The metrics' names have prefixes of their own."""

    def __init__(self, annotations: Mapping[str, Any], category_ids: Sequence[int]) -> None:
        super().__init__(collect_device="cpu")
        self.annotations = annotations
        self.category_ids = category_ids

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps the predictions of one batch (`DetectorModel` describes them)."""
        for sample in data_samples:
            x1, y1, x2, y2 = sample["boxes"].double().cpu().unbind(1)
            boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
            self.results.append(
                {
                    "image_id": sample["image_id"],
                    "boxes": boxes,
                    "scores": sample["scores"].cpu().numpy(),
                    "labels": sample["labels"].cpu().numpy(),
                    "backbone": sample["backbone"],
                }
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """``bbox/AP`` ..., ``backbone/gmacs``, ``backbone/activation_rate`` ...; NaN if undefined.

        `DecisionMeter.result` says what a backbone's values are.
        """
        detections = [
            {
                "image_id": result["image_id"],
                "bbox": box.tolist(),
                "score": float(score),
                "category_id": self.category_ids[int(label)],
            }
            for result in results
            for box, score, label in zip(
                result["boxes"], result["scores"], result["labels"], strict=True
            )
        ]
        metrics = {
            f"bbox/{name}": float("nan") if value is None else value
            for name, value in evaluate_boxes(self.annotations, detections).items()
        }
        meter = DecisionMeter()
        meter.merge([result["backbone"] for result in results])
        metrics |= {f"backbone/{name}": value for name, value in meter.result().items()}
        return metrics


def group_by_prefix(metrics: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    """``{"bbox/AP": 1.0}`` to ``{"bbox": {"AP": 1.0}}``; NaN, which JSON lacks, becomes None."""
    tree: dict[str, dict[str, float | None]] = {}
    for key, value in metrics.items():
        group, name = key.split("/", 1)
        tree.setdefault(group, {})[name] = None if np.isnan(value) else float(value)
    return tree
