import json

import numpy as np
import pytest
import torch
from PIL import Image

from dynbackbones.data.coco import CocoSource
from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision import data
from dynbackbones.integrations.torchvision.data import CocoDetection, Sizes, resized, to_tensor
from tests.messages import naming


@pytest.fixture
def source(tmp_path):
    """Three images of 20 x 10 pixels; category ids 7 and 3; the second shows a crowd alone."""
    (tmp_path / "images").mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (10, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")

    def box(number, image, category, bbox, **more):
        return {"id": number, "image_id": image, "category_id": category, "bbox": bbox,
                "area": bbox[2] * bbox[3], **more}  # fmt: skip

    content = {
        "images": [
            {"id": 10 + index, "file_name": f"{index}.png", "height": 10, "width": 20}
            for index in range(3)
        ],
        "categories": [{"id": 7, "name": "seven"}, {"id": 3, "name": "three"}],
        "annotations": [
            box(1, 10, 7, [2, 1, 4, 5]),
            box(2, 10, 3, [10, 0, 15, 10]),
            box(3, 10, 3, [5, 5, 0, 3]),
            box(4, 11, 3, [0, 0, 20, 10], iscrowd=1),
            box(5, 12, 7, [0, 0, 2, 2]),
        ],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    return CocoSource("tiny", path, tmp_path / "images")


def training(source, **options):
    settings = {"sizes": Sizes((0,), 99), "channels": "RGB", "train": True, **options}
    return CocoDetection([source], 2, settings.pop("sizes"), settings.pop("channels"), **settings)


def test_boxes_and_contiguous_labels(source):
    dataset = training(source)
    example = dataset[0, 0]
    assert dataset.category_ids == [3, 7]
    assert dataset.metainfo == {"datasets": ("tiny",), "classes": ("three", "seven")}
    # The second box is cut at the border, the third has no width.
    assert example["target"]["boxes"].tolist() == [[2, 1, 6, 6], [10, 0, 20, 10]]
    assert example["target"]["labels"].tolist() == [2, 1]
    assert example["image"].shape == (3, 10, 20)
    assert example["image"].dtype == torch.uint8


def test_crowds_and_images_without_boxes(source):
    assert len(training(source)) == 3
    assert training(source)[0, 1]["target"]["boxes"].shape == (0, 4)
    dataset = training(source, drop_empty=True)
    assert [dataset[0, index]["target"]["image_id"] for index in range(len(dataset))] == [10, 12]


def test_no_image_with_a_box(source):
    content = json.loads(source.annotations.read_text())
    content["annotations"] = []
    source.annotations.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=naming("tiny", "box", "DATALOADER.FILTER_EMPTY_ANNOTATIONS")
    ):
        training(source, drop_empty=True)


def test_channels(source):
    rgb, bgr = (training(source, channels=channels)[0, 0]["image"] for channels in ("RGB", "BGR"))
    assert torch.equal(rgb.flip(0), bgr)
    with Image.open(source.images / "0.png") as image:
        assert torch.equal(rgb, torch.from_numpy(np.array(image)).permute(2, 0, 1))


def test_flipping_moves_boxes_with_the_pixels(source):
    dataset = training(source, flip=True)
    plain = training(source)[0, 0]
    examples = [dataset[draw, 0] for draw in range(30)]
    flipped = [e for e in examples if not torch.equal(e["image"], plain["image"])]
    assert 5 < len(flipped) < 25
    for example in flipped:
        assert torch.equal(example["image"], plain["image"].flip(2))
        assert example["target"]["boxes"].tolist() == [[14, 1, 18, 6], [0, 0, 10, 10]]


def test_augmentation_is_a_function_of_seed_and_draw(source):
    def sizes(seed):
        dataset = training(source, sizes=Sizes((5, 40), 200, ranged=True), flip=True, seed=seed)
        return [dataset[draw, 2]["image"].shape for draw in range(12)]

    assert sizes(1) == sizes(1)
    assert sizes(1) != sizes(2)
    assert len(set(sizes(1))) > 5


def test_evaluation_resizes_to_the_test_size(source):
    dataset = CocoDetection([source], 2, Sizes((15,), 99), "RGB")
    example = dataset[0]
    assert example["image"].shape == (3, 15, 30)
    assert example["target"]["original_size"] == (10, 20)
    assert example["target"]["boxes"][0].tolist() == [3, 1.5, 9, 9]


@pytest.mark.parametrize(
    ("size", "short", "long", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((300, 1000), 800, 1333, (400, 1333)),
        ((33, 33), 0, 1333, (33, 33)),
        ((1, 500), 8, 100, (1, 100)),
    ],
)
def test_resized(size, short, long, expected):
    assert resized(size, short, long) == expected


def test_sizes_are_drawn_from_the_choices():
    random = np.random.default_rng(0)
    assert {Sizes((4, 9), 99).draw(random) for _ in range(50)} == {4, 9}
    assert {Sizes((4, 6), 99, ranged=True).draw(random) for _ in range(50)} == {4, 5, 6}


def test_to_tensor_resizes_to_height_and_width():
    assert to_tensor(Image.new("RGB", (8, 6)), (12, 4), "RGB").shape == (3, 12, 4)


def test_an_image_of_another_size_than_annotated(source):
    Image.new("RGB", (10, 20)).save(source.images / "0.png")
    with pytest.raises(UserError, match=naming(source.images / "0.png", "10 x 20", "20 x 10")):
        training(source)[0, 0]


def test_a_truncated_image(source):
    path = source.images / "0.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=naming(path, "truncated")):
        training(source)[0, 0]


def test_datasets_trained_on_together_must_agree(source, tmp_path):
    content = json.loads(source.annotations.read_text())
    content["categories"][0]["name"] = "eight"
    (tmp_path / "other.json").write_text(json.dumps(content))
    other = CocoSource("other", tmp_path / "other.json", source.images)
    with pytest.raises(UserError, match=naming("other", "categories", "tiny")):
        CocoDetection([source, other], 2, Sizes((0,), 99), "RGB")
    assert len(CocoDetection([source, source], 2, Sizes((0,), 99), "RGB")) == 6


def test_categories_of_another_set_are_matched_by_name(source, tmp_path):
    content = json.loads(source.annotations.read_text())
    for category, name in zip(content["categories"], ("three", "seven"), strict=True):
        category["name"] = name
    (tmp_path / "other.json").write_text(json.dumps(content))
    other = CocoSource("other", tmp_path / "other.json", source.images)
    first = CocoDetection([source], 2, Sizes((0,), 99), "RGB")
    evaluated = CocoDetection([other], 2, Sizes((0,), 99), "RGB", classes=first.classes)
    assert evaluated.classes.names == evaluated.metainfo["classes"] == ("three", "seven")
    # What is called seven in one file is called three in the other.
    assert first[0]["target"]["labels"].tolist() == [2, 1]
    assert evaluated[0]["target"]["labels"].tolist() == [1, 2]
    names = {entry["id"]: entry["name"] for entry in evaluated.annotations["categories"]}
    assert [names[number] for number in evaluated.category_ids] == ["three", "seven"]
    both = CocoDetection([source, other], 2, Sizes((0,), 99), "RGB")
    assert both[3]["target"]["labels"].tolist() == [1, 2]


def test_no_dataset_to_train_on(tiny_config):
    with pytest.raises(UserError, match=naming("DATASETS.TRAIN", "no dataset")):
        data.training_set(tiny_config(DATASETS__TRAIN="()"), seed=0)
