import math

import pytest
import torch

from dynbackbones.analysis.costs import DecisionMeter
from dynbackbones.backbones.decisions import Batch, Decisions
from dynbackbones.integrations.torchvision.evaluation import (
    DetectionMetric,
    evaluate_boxes,
    group_by_prefix,
)
from dynbackbones.training.report import table

ANNOTATIONS = {
    "images": [{"id": 4, "height": 50, "width": 60}, {"id": 9, "height": 50, "width": 60}],
    "categories": [{"id": 3, "name": "three"}, {"id": 7, "name": "seven"}, {"id": 8, "name": "x"}],
    "annotations": [
        {"id": 1, "image_id": 4, "category_id": 3, "bbox": [5, 5, 20, 20], "area": 400},
        {"id": 2, "image_id": 9, "category_id": 7, "bbox": [1, 2, 30, 40], "area": 1200},
    ],
}


class Share(Decisions):
    """As if a network of 2 GMACs had chosen a share of it."""

    rate_name = "activation_rate"

    @property
    def rate(self):
        return self.macs / 2e9


def spent(rate):
    meter = DecisionMeter()
    meter.update(Share(Batch(1, (50, 60)), lambda _: torch.tensor([2e9 * rate])))
    return meter


def sample(image_id, boxes, labels, rate):
    return {
        "image_id": image_id,
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "scores": torch.full((len(labels),), 0.9),
        "labels": torch.tensor(labels),
        "backbone": spent(rate),
    }


def metrics(*samples):
    metric = DetectionMetric(ANNOTATIONS, category_ids=[3, 7, 8])
    for item in samples:
        metric.process(None, [item])
    return group_by_prefix(metric.evaluate(size=len(samples)))


def test_perfect_detections():
    results = metrics(
        sample(4, [[5.0, 5.0, 25.0, 25.0]], [0], 0.25),
        sample(9, [[1.0, 2.0, 31.0, 42.0]], [1], 0.75),
    )
    bbox = results["bbox"]
    for name in ("AP", "AP50", "APs", "APm", "AP-three", "AP-seven"):
        assert bbox[name] == pytest.approx(100)
    # Nothing is large, and nothing is an x: there is nothing to measure.
    assert bbox["APl"] is None
    assert bbox["AP-x"] is None
    spreads = {"gmacs_std": 0.5, "activation_rate_std": 0.25}
    assert results["backbone"] == {"gmacs": 1, "activation_rate": 0.5, **spreads}


@pytest.mark.parametrize("numbers", [(0, 1), (5, 5), (-1, 0), ("a", None)])
def test_what_ids_annotations_have_does_not_matter(numbers):
    boxes = zip(ANNOTATIONS["annotations"], numbers, strict=True)
    annotations = {**ANNOTATIONS, "annotations": [{**box, "id": number} for box, number in boxes]}
    found = [
        {key: box[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for box in ANNOTATIONS["annotations"]
    ]
    assert evaluate_boxes(annotations, found)["AP"] == pytest.approx(100)


def test_a_wrong_category_and_a_miss():
    results = metrics(sample(4, [[5.0, 5.0, 25.0, 25.0]], [1], 0.5), sample(9, [], [], 0.5))
    assert results["bbox"]["AP"] == 0


def test_nothing_found_at_all():
    assert metrics(sample(4, [], [], 0.5), sample(9, [], [], 0.5))["bbox"]["AP50"] == 0


def test_the_annotations_are_left_alone():
    before = repr(ANNOTATIONS)
    found = [{"image_id": 4, "bbox": [5, 5, 20, 20], "score": 0.5, "category_id": 3}]
    assert evaluate_boxes(ANNOTATIONS, found)["AP-three"] == pytest.approx(100)
    assert repr(ANNOTATIONS) == before


def test_report():
    results = group_by_prefix({"bbox/AP": 12.345, "bbox/APl": math.nan, "backbone/gmacs": 1.5})
    assert results == {"bbox": {"AP": 12.345, "APl": None}, "backbone": {"gmacs": 1.5}}
    assert [line.split() for line in table(results).splitlines()] == [
        ["AP", "12.35"],
        ["APl", "n/a"],
        ["gmacs", "1.500"],
    ]
