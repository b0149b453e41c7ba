"""Datasets whose boxes could each be right, and whose whole is not."""

import numpy as np
import pytest

from dynbackbones.data.suspicions import suspicions
from tests.messages import names

SIZE = (640, 480)


def said(boxes, size=SIZE):
    content = {
        "images": [{"id": 1, "width": size[0], "height": size[1]}],
        "annotations": [{"image_id": 1, "bbox": list(box)} for box in boxes],
    }
    return list(suspicions(content))


def sound(count=200, size=SIZE):
    """Corners of boxes within an image."""
    random = np.random.default_rng(0)
    starts = random.uniform(0, 0.8, (count, 2)) * size
    return np.concatenate([starts, starts + random.uniform(0.02, 0.2, (count, 2)) * size], axis=1)


def xywh(corners):
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def test_nothing_is_said_of_sound_boxes():
    assert said(xywh(sound())) == []
    # Rounded up at the border, without width, over the whole image; one in 200 tiny.
    odd = [[0, 0, 641, 480], [5, 5, 0, 3], [0, 0, *SIZE], [3, 3, 0.5, 9]]
    assert said([*xywh(sound()), *odd]) == []
    # Small boxes near the origin could be corners as well.
    assert said(xywh(sound()) * 0.3) == []
    assert said([[0, 0, 1, 1]], size=(1, 1)) == []


def test_normalised_boxes():
    (text,) = said(xywh(sound()) / [*SIZE, *SIZE])
    assert names(text, 200, "normalised", "pixels")


def test_corners():
    (text,) = said(sound())
    assert names(text, "of 200", "x1 y1 x2 y2", "corners", "x y width height")


def test_another_size():
    (text,) = said(xywh(sound()) * 1.2)
    assert names(text, "of 200", "border", "another size")
    assert "corners" not in text


def test_outside_and_tiny():
    boxes = xywh(sound())
    boxes[:3, 0] += 700
    boxes[3:6, 2:] = 0.5
    tiny, outside = said(boxes)
    assert names(tiny, 3, 200, "smaller than a pixel")
    assert names(outside, 3, 200, "outside")


@pytest.mark.parametrize("side", [0, 1])
def test_a_box_that_ends_before_the_image_begins_is_outside(side):
    boxes = xywh(sound())
    boxes[:3, side] -= 1000
    assert names(" ".join(said(boxes)), 3, "outside")


def test_no_box():
    (text,) = said([])
    assert names(text, "no box")
