"""The engines' common description of detections."""

import numpy as np
import pytest
import torch

from dynbackbones.analysis.prediction import Prediction
from tests.messages import naming


def test_arrays_become_tensors():
    prediction = Prediction(np.zeros((2, 4)), [0.5, 0.25], np.array([1, 0]), torch.Size([8, 9]))
    assert prediction.boxes.dtype == torch.float32
    assert prediction.labels.dtype == torch.int64
    assert prediction.input_size == (8, 9)


def test_no_detections_have_four_columns():
    assert Prediction([], [], [], (8, 8)).boxes.shape == (0, 4)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=naming("boxes", "scores", "labels", "1, 2 and 1")):
        Prediction(np.zeros((1, 4)), [0.5, 0.6], [0], (8, 8))


def test_above_keeps_the_threshold_itself_and_ends_with_the_best():
    boxes = torch.arange(12.0).reshape(3, 4)
    kept = Prediction(boxes, [0.75, 0.25, 0.5], [7, 8, 9], (8, 8)).above(0.5)
    assert kept.labels.tolist() == [9, 7]
    assert kept.boxes.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
