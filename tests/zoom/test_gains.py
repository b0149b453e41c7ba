"""What a closer look is worth, by hand."""

import pytest
import torch

from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.gains import detection_gains, utility

GRID = PatchGrid((64, 64), 32, 8)


def boxes(*rows):
    """Rows of x1, y1, x2, y2, score, label."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4], table[:, 5].long())


TRUTH = boxes((2, 2, 12, 12, 1, 0), (40, 40, 50, 50, 1, 1))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (boxes(), 0),
        (boxes((2, 2, 12, 12, 0.9, 0)), 0.9),
        (boxes((2, 2, 12, 9, 0.8, 0)), (0.8 - 0.32) / 2),  # 0.7: found at 0.5, wrong at 0.75
        (boxes((2, 2, 12, 12, 0.8, 1)), -0.32),  # another class
        (boxes((2, 2, 12, 12, 0.9, 0), (2, 2, 12, 12, 0.8, 0)), 0.9 - 0.32),  # a double
        (boxes((0, 0, 0, 0, 0.8, 0)), -0.32),  # no area
    ],
)
def test_utility(found, expected):
    assert utility(found, TRUTH[:1]) == pytest.approx(expected)


def test_the_surer_detection_is_matched_first():
    objects = boxes((0, 0, 10, 10, 1, 0))
    worse = boxes((0, 0, 10, 6, 0.8, 0), (0, 0, 10, 10, 0.4, 0))
    # At 0.5 the surer one takes the object; at 0.75 it is wrong and the other is right.
    assert utility(worse, objects) == pytest.approx((0.8 - 0.08 + 0.4 - 0.32) / 2)


def test_patches_gain_what_is_centred_in_them():
    coarse = boxes((41, 41, 50, 50, 1, 1))
    fine = {0: TRUTH[:1], 1: boxes(), 2: boxes(), 3: TRUTH[1:]}
    gains = detection_gains(coarse, fine, GRID, TRUTH, handover=16)
    assert gains.tolist() == pytest.approx([1, 0, 0, 0])


def test_losing_what_the_coarse_pass_had_is_a_negative_gain():
    coarse = boxes((2, 2, 12, 12, 1, 0))
    gains = detection_gains(coarse, {p: boxes() for p in range(4)}, GRID, TRUTH[:1], handover=16)
    assert gains.tolist() == pytest.approx([-1, 0, 0, 0])
    kept = detection_gains(coarse, {p: boxes() for p in range(4)}, GRID, TRUTH[:1], handover=4)
    assert kept.tolist() == pytest.approx([0, 0, 0, 0])
