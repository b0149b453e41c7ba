"""COCO's average precision of detections, without any framework's evaluator."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycocotools.coco import COCO

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
    # Here and not above: the room of analyses does without pycocotools.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # It reports on stdout.
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


def _nothing_found(truth: COCO) -> COCO:
    """A result set without detections, which pycocotools cannot load."""
    found = type(truth)()
    found.dataset = {**truth.dataset, "annotations": []}
    found.createIndex()
    return found


def _percent(value: float) -> float | None:
    return None if value < 0 else 100 * float(value)
