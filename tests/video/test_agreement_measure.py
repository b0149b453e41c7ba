import pytest
import torch

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.video.agreement_measure import box_agreement, pixel_agreement
from dynbackbones.zoom.segmentation_gains import confusion


def found(boxes, labels, scores=None):
    return Prediction(boxes, scores or [0.9] * len(boxes), labels, (10, 10))


A, B, C = [0.0, 0, 10, 10], [20.0, 20, 30, 30], [0.0, 0, 10, 9]


def test_pixels_agree_where_labels_are_the_same():
    assert pixel_agreement(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, 2], [3, 0]])) == 0.75
    with pytest.raises(ValueError, match="size"):
        pixel_agreement(torch.zeros(2, 2), torch.zeros(2, 3))


@pytest.mark.parametrize(
    "one, other, expected",
    [
        (found([], []), found([], []), 1),
        (found([A], [0]), found([], []), 0),
        (found([A, B], [0, 1]), found([B, C], [1, 0]), 1),
        (found([A], [0]), found([C], [1]), 0),  # of another class
        (found([A, A], [0, 0]), found([C], [0]), 2 / 3),  # matched once
        (found([A, B], [0, 0], [0.9, 0.4]), found([C], [0]), 1),  # unsure boxes do not count
        (found([A], [0]), found([[8.0, 8, 18, 18]], [0]), 0),
    ],
)
def test_boxes_agree_where_they_match(one, other, expected):
    assert box_agreement(one, other) == pytest.approx(expected)
    assert box_agreement(other, one) == pytest.approx(expected)


def test_confusion_counts_pixels_that_have_a_truth():
    truth = torch.tensor([[0, 1], [1, 255]])
    assert confusion(torch.tensor([[0, 0], [1, 1]]), truth, 2).tolist() == [[1, 0], [1, 1]]
