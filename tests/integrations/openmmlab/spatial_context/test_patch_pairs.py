import json
import random

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("mmpretrain")

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.seeded_data import SeededDataset
from dynbackbones.integrations.openmmlab.datasets.image_folders import CorruptImageError
from dynbackbones.integrations.openmmlab.spatial_context import PatchPairs, patch_pairs
from tests.messages import names, naming


def pairs(images, **options):
    return PatchPairs(str(images), **{"size": 32, "patch_size": 16, **options})


def name_of(sample):
    return sample["data_samples"].patch


def test_a_pair_depends_on_its_seed_alone(images):
    data = SeededDataset(pairs(images))
    first = data[2, 7]
    random.seed(1)
    torch.manual_seed(1)
    again, other = data[2, 7], {name_of(data[2, seed]) for seed in range(20)}
    assert name_of(again) == name_of(first)
    assert torch.equal(first["inputs"][1], again["inputs"][1])
    assert torch.equal(first["data_samples"].offset, again["data_samples"].offset)
    assert len(other) > 3
    assert len({name_of(data[2, seed]).split("[")[0] for seed in range(5)}) == 1


def test_patches_are_bgr_and_where_the_offset_says(images, boxes):
    data = pairs(images, proposals=str(boxes), offset_unit="pixel", test_mode=True, patch_size=8)
    sample = data[0]
    image = cv2.imread(str(images / data.names[0]))
    places = [(2, 4, 32, 44), (70, 30, 110, 80)]
    if "70.0" not in name_of(sample):
        places.reverse()
    target, context = places[1], places[0]
    means = [
        image[top:bottom, left:right].mean(axis=(0, 1))
        for left, top, right, bottom in (target, context)
    ]
    for patch, mean in zip(sample["inputs"], means, strict=True):
        np.testing.assert_allclose(patch.float().mean(dim=(1, 2)).numpy(), mean, atol=6)
    expected = [target[k] - context[k] for k in (0, 1, 2, 1, 0, 3, 2, 3)]
    assert sample["data_samples"].offset.tolist() == expected


def test_distillation_sees_the_same_patches(images):
    context, same = pairs(images, test_mode=True), pairs(images, distillation=True, test_mode=True)
    for index in range(len(same)):
        sample = same[index]
        assert torch.equal(*sample["inputs"])
        assert not sample["data_samples"].offset.any()
        assert name_of(sample) == name_of(context[index])


def test_images_without_a_pair_are_left_out(images, boxes):
    data = pairs(images, proposals=str(boxes))
    assert len(data) == 5
    with pytest.raises(UserError, match=naming("boxes.json", "min_size=100", "max_iou=0.2")):
        pairs(images, proposals=str(boxes), min_size=100)


def test_what_is_left_out_is_counted(images, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(patch_pairs, "print_log", lambda text, logger: lines.append(text))
    overlapping = [[0, 0, 40, 40], [2, 2, 40, 40], [60, 40, 40, 40]]
    entries = [{"file_name": f"{n}.jpg", "bbox": box} for n in range(2) for box in overlapping]
    path = tmp_path / "three.json"
    path.write_text(json.dumps(entries))
    pairs(images, proposals=str(path))
    assert len(lines) == 1 and names(lines[0], "2 of 6 images", "2 of 6 pairs", "0.2")


def test_pairs_overlap_no_more_than_allowed(images):
    data = pairs(images, size=90, on_corrupt="error", max_iou=0.0)
    # Squares of 90 pixels always overlap in an image of 96 x 128.
    with pytest.raises(UserError, match=naming("size=90", "max_iou=0")):
        data[0]
    with pytest.raises(UserError, match=naming("size=90", "100 images")):
        pairs(images, size=90, max_iou=0.0)[0]


def test_a_broken_image_is_skipped_and_listed(images):
    broken = images / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    data = pairs(images)
    assert data[3]["data_samples"].img_path.endswith("4.jpg")
    assert data.corrupt_files() == [str(broken)]
    with pytest.raises(CorruptImageError, match=naming(broken)):
        pairs(images, on_corrupt="error")[3]


def test_kept_images_are_the_same(images):
    kept, plain = pairs(images, cached_images=2, test_mode=True), pairs(images, test_mode=True)
    for index in (0, 0, 1, 2, 2):
        assert torch.equal(kept[index]["inputs"][0], plain[index]["inputs"][0])


def test_wrong_options(images, tmp_path):
    for options in ({"offset_unit": "cm"}, {"on_corrupt": "ignore"}, {"boxes": 1}):
        with pytest.raises(UserError, match=naming(**options)):
            pairs(images, **options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=naming(tmp_path / "empty")):
        pairs(tmp_path / "empty")
