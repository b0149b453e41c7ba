"""Large scenes: their files agree, and no split shows another's digits."""

import json

import numpy as np
import pytest
from PIL import Image

from dynbackbones.data import coco
from dynbackbones.demo import digits, wide_digits


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wide_digits, "SPLITS", {"train": 4, "gains": 1, "val": 1})
        root = tmp_path_factory.mktemp("datasets")
        wide_digits.ensure_wide_digits(root)
    return root


def content(root, split):
    path = root / "wide_digits" / "annotations" / f"instances_{split}.json"
    return json.loads(path.read_text())


@pytest.mark.parametrize("split", wide_digits.SPLITS)
def test_boxes_are_tight_around_what_the_masks_say(root, split, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    source = coco.resolve(f"wide_digits_{split}")
    found = coco.check(source, num_classes=5)
    for image in found["images"]:
        name = image["file_name"].replace(".jpg", ".png")
        mask = np.asarray(Image.open(root / "wide_digits" / "masks" / split / name))
        assert mask.shape == (image["height"], image["width"])
        for box in (a for a in found["annotations"] if a["image_id"] == image["id"]):
            x, y, width, height = box["bbox"]
            inside = mask[int(y) : int(y + height) + 1, int(x) : int(x + width) + 1]
            assert (inside == box["category_id"]).any()


def test_training_shows_both_scales_in_small_pictures(root):
    images = content(root, "train")["images"]
    assert {(image["height"], image["width"]) for image in images} == {(192, 256)}
    sizes = [[], []]
    for box in content(root, "train")["annotations"]:
        sizes[box["image_id"] % 2].append(box["bbox"][3])
    assert max(sizes[0]) < 20 < min(sizes[1])  # ids count from 1: odd ones are in full


def test_large_scenes_are_mostly_empty(root):
    for split in ("gains", "val"):
        (image,) = content(root, split)["images"]
        assert (image["height"], image["width"]) == wide_digits.SIZE
        area = sum(box["area"] for box in content(root, split)["annotations"])
        assert 0 < area < 0.05 * image["height"] * image["width"]


def test_no_split_shows_the_digit_samples_of_another():
    labels = digits.load_samples()[1]
    splits = [set(wide_digits._samples_of(split, labels)) for split in wide_digits.SPLITS]
    assert sum(map(len, splits)) == len(set().union(*splits)) == len(labels)
    assert min(len(split) for split in splits) > 50


def test_a_folder_that_is_there_is_taken(root):
    before = (root / "wide_digits" / "meta.json").stat().st_mtime_ns
    wide_digits.ensure_wide_digits(root)
    assert (root / "wide_digits" / "meta.json").stat().st_mtime_ns == before
