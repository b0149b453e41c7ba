import copy
import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from dynbackbones.data import coco
from dynbackbones.demo import digits
from dynbackbones.errors import UserError
from tests.messages import names, naming

DATA = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "height": 8, "width": 12},
        {"id": 9, "file_name": "more/b.jpg", "height": 8, "width": 12},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 3,
            "bbox": [0, 0.5, 4, 0],
            "area": 2.5,
            "iscrowd": 0,
        },
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}],
}


@pytest.fixture
def source(tmp_path):
    """A sound dataset of two images in two folders."""
    images = tmp_path / "images"
    (images / "more").mkdir(parents=True)
    for image in DATA["images"]:
        Image.new("RGB", (12, 8)).save(images / image["file_name"])
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps(DATA))
    return coco.CocoSource("pets", annotations, images)


def test_a_sound_dataset_passes_and_its_annotations_are_returned(source):
    assert coco.check(source, num_classes=2) == DATA


def test_a_missing_folder_or_file_is_named_with_a_way_to_try(source, tmp_path):
    advice = ("DETECTRON2_DATASETS", "configs/demo/retinanet.yaml")
    absent = coco.CocoSource("pets", source.annotations, tmp_path / "none")
    with pytest.raises(UserError, match=naming("pets", absent.images, *advice)):
        coco.check(absent, 2)
    absent = coco.CocoSource("pets", tmp_path / "none.json", source.images)
    with pytest.raises(UserError, match=naming("pets", absent.annotations, *advice)):
        coco.check(absent, 2)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "line 1, column 1"),
        (b'{"images": [\n{"id"', "line 2, column 6"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 100_000, "nested"),
        (b"[]", "list"),
        (b"9" * 5000, "digits"),
    ],
)
def test_a_file_that_is_not_json_is_named(source, content, word):
    source.annotations.write_bytes(content)
    with pytest.raises(UserError, match=naming("pets", source.annotations, word)) as caught:
        coco.check(source, 2)
    assert "\n" not in str(caught.value)


def _drop(key, field):
    def edit(data):
        del data[key][0][field]

    return edit


def _put(key, field, value):
    def edit(data):
        data[key][0][field] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda data: data.pop("annotations"), ("'annotations'", "list")),
        (lambda data: data.update(images=[1]), ("'images'", "list")),
        (lambda data: data.update(images=[]), ("'images'", "empty")),
        (lambda data: data.update(categories=[]), ("'categories'", "empty")),
        (_drop("images", "id"), ("images[0]", "id")),
        (_put("images", "id", 9), ("images[1]", "id 9")),
        (_put("categories", "id", "three"), ("categories[0]", "id")),
        (_put("images", "id", True), ("images[0]", "id")),
        (_put("images", "id", 7.5), ("images[0]", "id")),
        (_put("images", "id", 10**400), ("images[0]", "id")),
        (_put("images", "id", "9"), ("images[1]", "id 9")),
        (_put("images", "file_name", "a\0.jpg"), ("images[0]", "file_name")),
        (_drop("images", "file_name"), ("images[0]", "file_name")),
        (_put("images", "height", 0), ("images[0]", "height 0")),
        (_drop("images", "width"), ("images[0]", "width None")),
        (_put("annotations", "image_id", 8), ("annotations[0]", "image_id 8")),
        (_put("annotations", "category_id", 1), ("annotations[0]", "category_id 1")),
        (_put("annotations", "image_id", [7]), ("annotations[0]", "image_id [7]")),
        (_drop("annotations", "bbox"), ("annotations[0]", "bbox None")),
        (_put("annotations", "bbox", [1, 2, 3]), ("annotations[0]", "bbox [1, 2, 3]")),
        (_put("annotations", "bbox", [1, 2, -3, 4]), ("annotations[0]", "bbox [1, 2, -3, 4]")),
        (
            _put("annotations", "bbox", [1, 2, float("nan"), 4]),
            ("annotations[0]", "bbox [1, 2, nan, 4]"),
        ),
        (
            _put("annotations", "bbox", ["1", "x", 3, 4]),
            ("annotations[0]", "bbox ['1', 'x', 3, 4]"),
        ),
        (
            _put("annotations", "bbox", [1e300, 2, 3, 4]),
            ("annotations[0]", "bbox [1e+300, 2, 3, 4]"),
        ),
        (_put("annotations", "iscrowd", 2), ("annotations[0]", "iscrowd 2")),
        (_put("annotations", "ignore", "maybe"), ("annotations[0]", "ignore 'maybe'")),
    ],
)
def test_malformed_annotations_are_named(source, edit, words):
    data = copy.deepcopy(DATA)
    edit(data)
    source.annotations.write_text(json.dumps(data))
    with pytest.raises(UserError, match=naming(source.annotations, *words)):
        coco.check(source, 2)


def test_what_looks_wrong_is_said_once_for_the_set(source, caplog):
    data = copy.deepcopy(DATA)
    data["annotations"][0] |= {"bbox": [0.1, 0.2, 0.3, 0.4], "area": None}
    source.annotations.write_text(json.dumps(data))
    coco.check(source, 2)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert names(said[0], "pets", source.annotations, 1, "area")
    assert names(said[1], "pets", source.annotations, 1, "normalised", "pixels")


def test_a_mark_of_the_byte_order_is_no_mistake(source):
    source.annotations.write_bytes(b"\xef\xbb\xbf" + source.annotations.read_bytes())
    assert coco.check(source, num_classes=2) == DATA


def test_another_number_of_categories_is_named(source):
    words = (source.annotations, 2, "cat, dog", 80, "MODEL.RETINANET.NUM_CLASSES")
    with pytest.raises(UserError, match=naming(*words)):
        coco.check(source, 80)


@pytest.mark.parametrize("whole_folder", [False, True])
def test_missing_images_are_counted_and_the_first_named(source, whole_folder):
    (source.images / "more" / "b.jpg").unlink()
    if whole_folder:
        (source.images / "more").rmdir()
    words = ("1 of 2", source.images, "more/b.jpg", source.annotations)
    with pytest.raises(UserError, match=naming(*words)):
        coco.check(source, 2)


def test_names_of_images_as_windows_writes_them(source):
    data = copy.deepcopy(DATA)
    data["images"][1]["file_name"] = "more\\b.jpg"
    source.annotations.write_text(json.dumps(data))
    reading = coco.read(source, 2)
    assert reading.content == DATA
    assert reading.changed
    (source.images / "more\\b.jpg").touch()  # a name like any other here
    assert coco.check(source, 2)["images"][1]["file_name"] == "more\\b.jpg"


@pytest.mark.parametrize("name", ["../secret.jpg", "more/../../secret.jpg", "/{}/secret.jpg", "."])
def test_images_outside_of_their_folder_are_refused_unless_asked_for(source, tmp_path, name):
    name = name.format(tmp_path)
    Image.new("RGB", (12, 8)).save(tmp_path / "secret.jpg")
    data = copy.deepcopy(DATA)
    data["images"][0]["file_name"] = name
    source.annotations.write_text(json.dumps(data))
    words = (source.annotations, name, source.images, "DATASETS.IMAGES_ANYWHERE True")
    with pytest.raises(UserError, match=naming(*words)):
        coco.check(source, 2)
    anywhere = dataclasses.replace(source, anywhere=True)
    if name != ".":
        assert coco.check(anywhere, 2)["images"][0]["file_name"] == name


def test_a_path_within_the_folder_may_be_absolute_or_a_link(source, tmp_path):
    (source.images / "more" / "b.jpg").rename(tmp_path / "b.jpg")
    (source.images / "more" / "b.jpg").symlink_to(tmp_path / "b.jpg")
    data = copy.deepcopy(DATA)
    data["images"][0]["file_name"] = str(source.images / "a.jpg")
    source.annotations.write_text(json.dumps(data))
    assert coco.check(source, 2) == data


def test_a_reading_says_whether_others_would_read_the_same(source):
    def reading(edit, classes=None):
        data = copy.deepcopy(DATA)
        edit(data)
        source.annotations.write_text(json.dumps(data))
        found = coco.read(source, 2, classes)
        return found.changed, found.completed

    def same(data):
        pass

    assert reading(same) == (False, False)
    assert reading(_drop("annotations", "iscrowd")) == (False, True)
    assert reading(_put("annotations", "iscrowd", None)) == (True, False)
    assert reading(same, coco.Classes(("cat", "dog"), "weights")) == (False, False)
    assert reading(same, coco.Classes(("Cat", "dog"), "weights")) == (True, False)
    assert reading(same, coco.Classes(("dog", "cat"), "weights")) == (True, False)


def test_categories_in_another_order_are_matched_by_name_and_it_is_said(source, caplog):
    content = coco.check(source, 2, coco.Classes(("dog", "cat"), "my_train"))
    assert coco.class_names(content) == ("dog", "cat")
    names_of = {category["id"]: category["name"] for category in content["categories"]}
    assert names_of[content["annotations"][0]["category_id"]] == "cat"
    assert names(caplog.text, source.annotations, "my_train", "by name")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


def test_the_root_is_detectron2s(root, monkeypatch):
    assert coco.datasets_root() == root
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("DETECTRON2_DATASETS")
        else:
            monkeypatch.setenv("DETECTRON2_DATASETS", value)
        assert coco.datasets_root() == Path("datasets")
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/data")
    assert coco.datasets_root() == Path.home() / "data"


def test_coco_is_where_detectron2_expects_it(root):
    assert coco.resolve("coco_2017_val") == coco.CocoSource(
        "coco_2017_val",
        root / "coco/annotations/instances_val2017.json",
        root / "coco/val2017",
    )


def test_the_config_names_datasets_of_its_own(root):
    formats = {"cells": ["bccd/train.json", "/elsewhere/images"], "coco_2017_val": ["a", "b"]}
    cells = coco.resolve("cells", formats)
    assert cells == coco.CocoSource("cells", root / "bccd/train.json", Path("/elsewhere/images"))
    assert coco.resolve("coco_2017_val", formats).annotations == root / "a"
    assert coco.known_datasets(formats) == [
        "cells",
        "coco_2017_train",
        "coco_2017_val",
        "digit_videos_bursts",
        "digit_videos_pan",
        "digits_train",
        "digits_val",
        "wide_digits_gains",
        "wide_digits_train",
        "wide_digits_val",
    ]


@pytest.mark.parametrize("entry", ["path", ["a"], ["a", "b", "c"], ["a", 1]])
def test_a_malformed_entry_is_named(root, entry):
    with pytest.raises(UserError, match=naming("DATASETS.COCO_FORMAT.cells", repr(entry))):
        coco.resolve("cells", {"cells": entry})


def test_an_unknown_dataset_is_named_with_those_that_are_known(root):
    known = ("cells", "coco_2017_train", "digits_val", "DATASETS.COCO_FORMAT")
    with pytest.raises(UserError, match=naming("'cococo'", *known)):
        coco.resolve("cococo", {"cells": ["a", "b"]})


def test_the_demo_dataset_is_written_on_first_use(root, monkeypatch):
    write = digits.write_digits
    monkeypatch.setattr(digits, "write_digits", lambda root: write(root, 2, 1))
    for name, count in (("digits_train", 2), ("digits_val", 1)):
        source = coco.resolve(name)
        assert source.images.parent == root / "digits"
        assert len(coco.check(source, num_classes=5)["images"]) == count
