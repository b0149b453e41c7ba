import numpy as np
import pytest

from dynbackbones.data.proposals import keep_boxes, overlaps, pair_boxes, random_boxes


def test_random_boxes_are_squares_anywhere_in_the_image():
    boxes = random_boxes(80, 120, 400, 64, np.random.default_rng(0))
    assert boxes.shape == (400, 4) and boxes.dtype == np.float32
    assert ((boxes[:, 2:] - boxes[:, :2]) == 64).all()
    assert boxes[:, :2].min(axis=0).tolist() == [0, 0]
    assert boxes[:, 2:].max(axis=0).tolist() == [120, 80]
    # One that is larger than the image is as large as that.
    assert random_boxes(30, 120, 1, 64, np.random.default_rng(0))[0, [1, 3]].tolist() == [0, 30]


def test_long_small_and_unsure_boxes_are_left_out():
    boxes = np.array([[0, 0, 30, 10], [0, 0, 31, 10], [0, 0, 9, 9], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.5, 0.9, 0.9, 0.1], np.float32)
    assert keep_boxes(boxes, scores, min_size=10).tolist() == [0, 3]
    assert keep_boxes(boxes, scores, min_size=10, min_score=0.2).tolist() == [0]
    assert keep_boxes(boxes, scores, max_aspect=4).tolist() == [0, 1, 2, 3]


def test_pairs_are_unordered_and_overlap_little():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 20], [20, 20, 30, 30], [5, 0, 15, 10]], np.float32)
    table = overlaps(boxes)
    assert table[0, 1] == pytest.approx(0.5) and table[0, 3] == pytest.approx(1 / 3)
    assert table[0, 2] == 0 and np.allclose(np.diag(table), 1) and np.allclose(table, table.T)
    assert len(pair_boxes(boxes)) == 6
    assert pair_boxes(boxes, 0.4).tolist() == [[0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert pair_boxes(boxes, 0.15).tolist() == [[0, 2], [1, 2], [2, 3]]
    assert pair_boxes(boxes[:1]).shape == (0, 2)
