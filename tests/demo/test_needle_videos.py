import numpy as np
import pytest

from dynbackbones.demo import digits
from dynbackbones.demo.digit_tiles import CLASSES
from dynbackbones.demo.needle_videos import (
    FRAMES,
    VISIBLE,
    NeedleVideos,
    expected_accuracy,
    is_visible,
)
from tests.messages import naming


def test_videos_are_reproducible_and_do_not_depend_on_their_number():
    first, again = NeedleVideos("train", 5)[4], NeedleVideos("train", 9)[4]
    assert np.array_equal(first.frames, again.frames) and first[1:] == again[1:]
    assert first.frames.shape == (60, 64, 64, 3) and first.frames.dtype == np.uint8
    assert not np.array_equal(NeedleVideos("train", 5, seed=1)[4].frames, first.frames)
    assert not np.array_equal(NeedleVideos("val", 5)[4].frames, first.frames)


def test_the_digit_shows_in_consecutive_frames_and_nowhere_else():
    for video in NeedleVideos("val", 8):
        assert video.visible.sum() == VISIBLE
        # Its strokes stand out by at least this much from one frame to the next.
        steps = np.abs(np.diff(video.frames.astype(float).mean(axis=3), axis=0)).max(axis=(1, 2))
        edges = [t for t in (video.first - 1, video.first + VISIBLE - 1) if 0 <= t < FRAMES - 1]
        outside = np.r_[steps[: max(video.first - 1, 0)], steps[video.first + VISIBLE :]]
        assert min(steps[edges]) > outside.max()


def test_splits_share_no_digit_sample():
    labels = digits.load_samples(len(CLASSES))[1]
    allowed = digits.split_samples(labels, digits.SEED)
    for split in ("train", "val"):
        for video in NeedleVideos(split, 8):
            assert video.sample in allowed[split] and labels[video.sample] == video.label


def test_chances_of_seeing_it_are_those_of_the_formula():
    videos = NeedleVideos("train", 1500)
    first = np.array([videos._drawn(index)[2] for index in range(1500)])
    visible = is_visible(first)
    for count in (3, 5, 10):
        chosen = (2 * np.arange(count) + 1) * FRAMES // (2 * count)
        seen = visible[:, chosen].any(axis=1).mean()
        # The window does not reach beyond the ends, so that middles see a little more of it.
        assert seen == pytest.approx(min(1, count * VISIBLE / FRAMES), abs=0.07)
    random = np.random.default_rng(0).random(visible.shape) < 0.1
    assert (random & visible).any(axis=1).mean() == pytest.approx(1 - 0.9**VISIBLE, abs=0.04)


def test_expected_accuracy():
    assert expected_accuracy(0.3, 0.95) == pytest.approx(0.355)
    assert expected_accuracy(0, 1) == 0.1 and expected_accuracy(1, 0.9) == 0.9


def test_videos_that_there_are_not():
    with pytest.raises(ValueError, match=naming("split", "'test'")):
        NeedleVideos("test", 1)
    with pytest.raises(ValueError, match=naming("count", 0)):
        NeedleVideos("val", 0)
    with pytest.raises(IndexError):
        NeedleVideos("val", 2)[2]
