"""COCO average precision, and what the backbone cost per image."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dynbackbones.analysis.costs import DecisionMeter

_SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def evaluate_boxes(
    annotations: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """Average precision in percent, by COCO's rules.

    Args:
        annotations: content of a COCO annotation file.
        detections: in COCO's result format, with dataset category ids.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, and ``AP-<category>`` for each
        category; None where there is no object to find.
    """
    # pycocotools reports on stdout.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            **annotations,
            "info": annotations.get("info", {}),
            # To pycocotools an id of 0 means that nothing was found.
            "annotations": [
                {"iscrowd": 0, **entry, "id": number}
                for number, entry in enumerate(annotations["annotations"], start=1)
            ],
        }
        truth.createIndex()
        found = truth.loadRes(list(detections)) if detections else _nothing_found(truth)
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    results = dict(zip(_SUMMARY, map(_percent, evaluation.stats), strict=False))
    # (IoU thresholds, recalls, categories, areas, detections per image); -1 where undefined.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    for position, category in enumerate(truth.loadCats(evaluation.params.catIds)):
        values = precision[:, :, position]
        mean = values[values > -1].mean() if (values > -1).any() else -1
        results[f"AP-{category.get('name', category['id'])}"] = _percent(mean)
    return results


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


def _nothing_found(truth: COCO) -> COCO:
    """A result set without detections, which pycocotools cannot load."""
    found = COCO()
    found.dataset = {**truth.dataset, "annotations": []}
    found.createIndex()
    return found


def _percent(value: float) -> float | None:
    return None if value < 0 else 100 * float(value)
