"""Figures of a stream."""

import pytest
import torch

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.video.decisions import FrameDecision
from dynbackbones.video.report import Reservoir, agreement, figures, table
from tests.messages import names


def decided(index, reason, milliseconds, macs=2e9):
    key = reason != "propagated"
    return FrameDecision(index, key, 0, reason, milliseconds, lambda: macs if key else 0.0)


def test_figures_of_a_clip():
    frames = [decided(0, "first", 40), *(decided(i, "propagated", 4.0) for i in (1, 2, 3))]
    found = figures([*frames, decided(4, "schedule", 50)])
    assert (found["frames"], found["keys"], found["key_frames"]) == (5, 2, [0, 4])
    assert found["reasons"] == {"propagated": 3, "first": 1, "schedule": 1}
    assert found["milliseconds"]["computed"] == pytest.approx({"mean": 45, "p95": 49.5, "max": 50})
    assert found["milliseconds"]["all"]["mean"] == pytest.approx(102 / 5)
    assert found["macs_per_frame"] == pytest.approx(0.8e9)
    text = table({**found, "agreement": None})
    assert names(text, "5 frames, 2", "40.0%", "propagated 3", "0.800 G", "0.400 of", "2.000 G")
    assert "agreement" not in text


def test_macs_that_nobody_can_count_are_left_out():
    found = figures([decided(0, "first", 4, None), decided(1, "propagated", 1)])
    assert found["macs_per_frame"] is None
    assert "MACs" not in table(found)


def test_no_frame_is_an_error():
    with pytest.raises(ValueError, match="decisions"):
        figures([])


def test_agreement_of_labels_and_of_boxes():
    labels = torch.tensor([[0, 1], [2, 2]])
    assert agreement(labels, labels.clamp(max=1)) == 0.5
    box = Prediction(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0.4]), torch.tensor([0]), (9, 9))
    none = Prediction(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), (9, 9))
    assert agreement(box, none) == 1
    assert agreement(box, none, score=0.3) == 0


def test_a_reservoir_takes_each_as_often():
    counts = torch.zeros(40)
    for seed in range(2000):
        kept = Reservoir(4, seed)
        for number in range(40):
            place = kept.place()
            if place is not None:
                kept.put(place, number)
        found = list(kept.items())
        assert len(set(found)) == 4
        counts[found] += 1
    assert counts.sum() == 8000
    assert ((counts - 200).abs() < 70).all()  # five standard deviations


def test_a_reservoir_of_fewer_than_it_holds_keeps_all():
    kept = Reservoir(4)
    for number in range(3):
        kept.put(kept.place(), number)
    assert sorted(kept.items()) == [0, 1, 2]
    assert Reservoir(0).place() is None
