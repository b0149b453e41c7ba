"""What is drawn of a stream: results, strips, pictures."""

import numpy as np
import pytest
import torch

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.video.pictures import (
    COLOURS,
    COMING,
    KEY,
    LOST,
    MOVED,
    STRIP_HEIGHT,
    Look,
    draw_result,
    draw_strip,
    enlargement,
    fitted,
    picture,
)

IMAGE = np.full((400, 500, 3), 100, np.uint8)


def levels(strip, count):
    """What each of ``count`` frames has in a strip, left of its middle."""
    columns = [int((i + 0.2) * strip.shape[1] / count) for i in range(count)]
    pixels = strip[-10, columns].astype(int)
    return np.abs(pixels[:, None] - COLOURS.astype(int)).sum(axis=2).argmin(axis=1).tolist()


def test_a_strip_shows_frames_in_their_places():
    strip = draw_strip(300, [KEY, MOVED, LOST, KEY], 6, [3], "text")
    assert strip.shape == (STRIP_HEIGHT, 300, 3)
    assert levels(strip, 6) == [KEY, MOVED, LOST, KEY, COMING, COMING]
    assert (strip[-1, 175] == 255).all() and (strip[-1] == 255).all(axis=1).sum() == 1


def test_a_key_is_seen_among_more_frames_than_columns():
    seen = [MOVED] * 1000
    seen[501] = KEY
    strip = draw_strip(100, seen, 2000, [], "")
    found = (strip[-10] == COLOURS[KEY]).all(axis=1).nonzero()[0].tolist()
    assert found == [25]
    assert (strip[-10, 51:] == COLOURS[COMING]).all()


def test_more_frames_than_a_file_said_fit():
    assert levels(draw_strip(300, [KEY, MOVED, KEY], 2, [2], ""), 3) == [KEY, MOVED, KEY]


def test_without_an_end_the_latest_frames_are_shown():
    seen = [KEY] * 50 + [MOVED] * 24 + [KEY]
    strip = draw_strip(100, seen, None, [74], "")
    assert levels(strip, 25) == [MOVED] * 24 + [KEY]
    assert (strip[-1, 97:] == 255).any()
    assert levels(draw_strip(100, [KEY, MOVED], None, [1], ""), 25)[:3] == [KEY, MOVED, COMING]


def test_boxes_are_drawn_from_their_score_on():
    boxes = torch.tensor([[50.0, 60, 200, 300], [300, 100, 400, 200]])
    found = Prediction(boxes, torch.tensor([0.9, 0.3]), torch.tensor([1, 0]), (400, 500))
    drawn = draw_result(IMAGE, found, Look(("a", "b")))
    changed = (drawn != IMAGE).any(axis=2)
    assert changed[60:300, 50].all() and changed[300, 50:200].all()
    assert not changed[:, 250:].any()
    assert draw_result(IMAGE, found, Look(("a", "b"), score_threshold=0.2))[150, 300].any()
    assert (IMAGE == 100).all()


def test_nothing_found_leaves_the_frame():
    none = Prediction(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), (400, 500))
    assert (draw_result(IMAGE, none, Look()) == IMAGE).all()


def test_classes_have_the_datasets_colours_and_others_beyond():
    labels = torch.zeros(400, 500, dtype=torch.int64)
    labels[:, 250:], labels[:, 400:] = 1, 2
    drawn = draw_result(IMAGE, labels, Look(palette=[[0, 0, 0], [200, 0, 0]]))
    assert drawn[0, 0].tolist() == [50, 50, 50] and drawn[0, 300].tolist() == [150, 50, 50]
    assert len({tuple(drawn[0, x]) for x in (0, 300, 450)}) == 3
    assert Look().name(3) == "3" and Look(("a",)).name(0) == "a"
    assert len({tuple(colour) for colour in Look().colours(20)}) == 20


@pytest.mark.parametrize(("size", "scale"), [((192, 256), 2), ((720, 1280), 1), ((20, 1000), 16)])
def test_small_frames_are_enlarged(size, scale):
    assert enlargement(size) == scale
    drawn = draw_result(np.zeros((*size, 3), np.uint8), torch.zeros(size).long(), Look())
    assert drawn.shape == (size[0] * scale, size[1] * scale, 3)


@pytest.mark.parametrize("size", [(400, 500), (200, 250), (300, 900), (1, 1)])
def test_a_frame_is_fitted_whole(size):
    out = fitted(IMAGE, size)
    assert out.shape == (*size, 3)
    assert (out == 100).all(axis=2).any()
    assert (out == 100).mean() == pytest.approx(min(1.25 * size[0] / size[1], 1), abs=0.01)


def test_frames_in_a_row_above_all_of_them():
    frames = [(0, "first", IMAGE), (2, "third", IMAGE[:200])]
    out = picture(frames, [KEY, MOVED, MOVED, KEY], "text")
    assert out.shape[0] > 400 + STRIP_HEIGHT and 1000 < out.shape[1] < 1050
    assert levels(out[-STRIP_HEIGHT:], 4) == [KEY, MOVED, MOVED, KEY]
    assert (out[200, 250] == 100).all() and (out[200, 750] == 100).all()
