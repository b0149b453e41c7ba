"""Clips with digits: what moves, that files agree, and whose digits they show."""

import json

import numpy as np
import pytest
from PIL import Image

from dynbackbones.data import coco
from dynbackbones.demo import digit_videos, digits


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    digit_videos.ensure_digit_videos(root)
    return root


def masks(root, clip):
    folder = root / "digit_videos" / "masks" / clip
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def content(root, clip):
    path = root / "digit_videos" / "annotations" / f"instances_{clip}.json"
    return json.loads(path.read_text())


def moving(root, clip):
    """Of each frame but the first, whether anything moved."""
    shown = masks(root, clip)
    return [bool((one != other).any()) for one, other in zip(shown, shown[1:], strict=False)]


def runs(values):
    """(value, length) of what follows in succession."""
    found = []
    for value in values:
        if found and found[-1][0] == value:
            found[-1][1] += 1
        else:
            found.append([value, 1])
    return found


def test_the_bursts_are_short_and_rests_are_long(root):
    moved = moving(root, "bursts")
    assert len(moved) + 1 == digit_videos.CLIPS["bursts"] == 240
    assert 0.12 <= sum(moved) / 240 <= 0.18
    inner = runs(moved)[1:-1]
    assert all(3 <= length <= 8 for value, length in inner if value)
    assert all(10 <= length <= 40 for value, length in inner if not value)


def test_the_camera_of_the_pan_never_rests(root):
    assert moving(root, "pan") == [True] * 119


@pytest.mark.parametrize("clip", digit_videos.CLIPS)
def test_boxes_are_tight_around_what_the_masks_say(root, clip, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    found = coco.check(coco.resolve(f"digit_videos_{clip}"), num_classes=5)
    shown = masks(root, clip)
    whole = 0
    for box in found["annotations"]:
        mask = shown[box["image_id"] - 1] == box["category_id"]
        x, y, width, height = map(int, box["bbox"])
        part = mask[y : y + height, x : x + width]
        assert all(side.any() for side in (part[0], part[-1], part[:, 0], part[:, -1]))
        whole += part.sum() == box["area"]
    assert whole > 0.95 * len(found["annotations"])  # another of its class may reach into a box


def test_a_box_moves_as_the_mask_does(root):
    shown, moved = masks(root, "bursts"), 0
    places = {}
    for box in content(root, "bursts")["annotations"]:
        places.setdefault(box["sample"], {})[box["image_id"] - 1] = box
    for of_digit in places.values():
        for index in of_digit.keys() & {index - 1 for index in of_digit}:
            one, other = of_digit[index], of_digit[index + 1]
            if one["area"] != other["area"]:
                continue  # cut off by the border
            x1, y1, width, height = map(int, one["bbox"])
            x2, y2 = map(int, other["bbox"][:2])
            assert other["bbox"][2:] == [width, height]
            label = one["category_id"]
            before = shown[index][y1 : y1 + height, x1 : x1 + width] == label
            after = shown[index + 1][y2 : y2 + height, x2 : x2 + width] == label
            assert (before == after).mean() > 0.97
            moved += (x1, y1) != (x2, y2)
    assert moved > 50


def test_a_digit_keeps_its_colour_and_frames_differ_in_noise(root):
    first, second = (
        np.asarray(Image.open(root / "digit_videos" / "bursts" / f"{i:06d}.jpg"), float)
        for i in (0, 1)
    )
    assert not moving(root, "bursts")[0]
    assert 0.5 < np.abs(first - second).mean() < 4
    shown = masks(root, "bursts")[0]
    for label in np.unique(shown):
        assert np.abs((first - second)[shown == label].mean()) < 0.5


def test_the_same_clips_come_out_again_and_whole(root, tmp_path, monkeypatch):
    monkeypatch.setattr(digit_videos, "CLIPS", {"bursts": 12, "pan": 3})
    digit_videos.ensure_digit_videos(tmp_path)
    for clip, count in digit_videos.CLIPS.items():
        again = sorted((tmp_path / "digit_videos").glob(f"**/{clip}/*.*"))
        assert len(again) == 2 * count
        for path in again:
            assert path.read_bytes() == (root / path.relative_to(tmp_path)).read_bytes()


def test_no_digit_is_one_that_the_demo_trains_with(root):
    labels = digits.load_samples()[1]
    trained = set(digits.split_samples(labels, digits.SEED)["train"].tolist())
    for clip in digit_videos.CLIPS:
        boxes = content(root, clip)["annotations"]
        shown = {box["sample"] for box in boxes}
        assert len(shown) >= 5 and not shown & trained
        assert all(labels[box["sample"]] + 1 == box["category_id"] for box in boxes)


def test_clips_that_are_there_are_taken(root):
    meta = root / "digit_videos" / "meta.json"
    before = meta.stat().st_mtime_ns
    assert digit_videos.ensure_digit_videos(root) == root / "digit_videos"
    assert meta.stat().st_mtime_ns == before
