import builtins
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dynbackbones.data import coco
from dynbackbones.demo import coco_folder, digits, scenes
from dynbackbones.errors import UserError
from tests.messages import naming

NUM_TRAIN, NUM_VAL = 30, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return digits.write_digits(tmp_path_factory.mktemp("datasets"), NUM_TRAIN, NUM_VAL)


def annotations(folder, split):
    return json.loads((folder / f"annotations/instances_{split}.json").read_text())


def mask_of(folder, split, image):
    name = image["file_name"].replace(".jpg", ".png")
    with Image.open(folder / "masks" / split / name) as mask:
        assert mask.mode == "L"
        return np.asarray(mask)


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(("split", "count"), [("train", NUM_TRAIN), ("val", NUM_VAL)])
def test_the_files_are_a_sound_coco_dataset(folder, split, count):
    source = coco.CocoSource(split, folder / f"annotations/instances_{split}.json", folder / split)
    data = coco.check(source, num_classes=5)
    assert [category["name"] for category in data["categories"]] == list(digits.CLASSES)
    assert [category["id"] for category in data["categories"]] == [1, 2, 3, 4, 5]
    assert len(data["images"]) == count == len(list(source.images.iterdir()))
    for image in data["images"]:
        picture = coco.read_image(source.images / image["file_name"])
        assert picture.size == (image["width"], image["height"])
        found = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        assert 2 <= len(found) <= 5


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_boxes_and_labels_agree(folder, split):
    data = annotations(folder, split)
    labels = json.loads((folder / f"labels_{split}.json").read_text())
    assert labels["classes"] == list(digits.CLASSES)
    for image in data["images"]:
        mask = mask_of(folder, split, image)
        assert mask.shape == (image["height"], image["width"])
        rest = mask.copy()
        found = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        for annotation in found:
            x, y, width, height = annotation["bbox"]
            inside = mask[y : y + height, x : x + width]
            assert set(np.unique(inside)) <= {0, annotation["category_id"]}
            assert scenes.tight_box(inside > 0) == (0, 0, width, height)
            assert annotation["area"] == (inside > 0).sum()
            rest[y : y + height, x : x + width] = 0
        assert not rest.any(), "digit pixels outside of all boxes"
        classes = sorted({annotation["category_id"] for annotation in found})
        assert labels["labels"][image["file_name"]] == classes


def test_digits_are_of_the_promised_size_and_leave_most_of_the_image_free(folder):
    data = annotations(folder, "train")
    boxes = np.array([annotation["bbox"] for annotation in data["annotations"]])
    assert boxes[:, 3].min() >= 24
    assert boxes[:, 3].max() <= 72
    pixels = NUM_TRAIN * scenes.HEIGHT * scenes.WIDTH
    assert boxes[:, 2:].prod(1).sum() < 0.15 * pixels
    assert {annotation["category_id"] for annotation in data["annotations"]} == {1, 2, 3, 4, 5}


def test_digits_stand_out_from_what_surrounds_them(folder):
    contrasts = []
    for image in annotations(folder, "train")["images"]:
        picture = np.asarray(coco.read_image(folder / "train" / image["file_name"])).mean(-1)
        mask = mask_of(folder, "train", image)
        for annotation in annotations(folder, "train")["annotations"]:
            if annotation["image_id"] == image["id"]:
                x, y, width, height = annotation["bbox"]
                grey = picture[y : y + height, x : x + width]
                inside = mask[y : y + height, x : x + width] > 0
                contrasts.append(abs(grey[inside].mean() - grey[~inside].mean()))
    assert min(contrasts) > 25
    assert np.median(contrasts) < 110, "too easy"


def test_each_annotation_shows_the_sample_that_it_names(folder):
    samples, labels = digits.load_samples()
    for annotation in annotations(folder, "val")["annotations"]:
        assert labels[annotation["sample"]] + 1 == annotation["category_id"]
    assert samples.min() == 0
    assert samples.max() == 1


def test_train_and_val_share_no_digit_sample(folder):
    used = {
        split: {a["sample"] for a in annotations(folder, split)["annotations"]}
        for split in ("train", "val")
    }
    assert not used["train"] & used["val"]
    labels = np.repeat(np.arange(5), 40)
    split = digits.split_samples(labels, seed=3)
    assert sorted([*split["train"], *split["val"]]) == list(range(200))
    assert np.bincount(labels[split["val"]]).tolist() == [10] * 5


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder, tmp_path):
    again = digits.write_digits(tmp_path / "again", NUM_TRAIN, NUM_VAL)
    assert hashes(again) == hashes(folder)
    other = digits.write_digits(tmp_path / "other", NUM_TRAIN, NUM_VAL, seed=1)
    same = hashes(other).items() & hashes(folder).items()
    assert not same


def test_an_image_does_not_depend_on_how_many_there_are(folder, tmp_path):
    fewer = hashes(digits.write_digits(tmp_path, 2, 2))
    all_of_them = hashes(folder)
    pictures = [name for name in fewer if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 8
    assert all(fewer[name] == all_of_them[name] for name in pictures)


def test_images_and_splits_differ_among_themselves(folder):
    found = hashes(folder)
    pictures = [value for name, value in found.items() if name.endswith(".jpg")]
    assert len(set(pictures)) == NUM_TRAIN + NUM_VAL


def test_a_finished_dataset_is_not_written_again(tmp_path):
    folder = digits.write_digits(tmp_path, 2, 1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert digits.write_digits(tmp_path, 2, 1) == folder
    assert digits.ensure_digits(tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_ensure_writes_the_default_dataset(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(digits, "write_digits", lambda *args: calls.append(args))
    digits.ensure_digits(tmp_path)
    assert calls == [(tmp_path,)]
    assert (digits.NUM_TRAIN, digits.NUM_VAL) == (600, 100)


def test_another_seed_or_version_in_the_folder_is_refused(tmp_path, monkeypatch):
    folder = digits.write_digits(tmp_path, 1, 1, seed=5)
    before = hashes(folder)
    words = (folder, "seed 5", "seed 0", "move", "DETECTRON2_DATASETS")
    with pytest.raises(UserError, match=naming(*words)):
        digits.ensure_digits(tmp_path)
    with pytest.raises(UserError, match=naming(folder, "num_train 1", "num_train 2")):
        digits.write_digits(tmp_path, 2, 1, seed=5)
    monkeypatch.setattr(digits, "VERSION", 2)
    with pytest.raises(UserError, match=naming(folder, "version 1", "version 2")):
        digits.write_digits(tmp_path, 1, 1, seed=5)
    assert hashes(folder) == before


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"version": 1}'])
def test_a_folder_of_someone_else_is_refused_and_left_alone(tmp_path, content):
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    if content is not None:
        (folder / "meta.json").write_text(content)
    with pytest.raises(UserError, match=naming(folder, "meta.json", "move")):
        digits.ensure_digits(tmp_path)
    assert (folder / "mine.txt").read_text() == "mine"


def test_a_run_killed_while_writing_leaves_no_dataset(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from dynbackbones.data import digits, scenes\n"
        "compose = scenes.compose\n"
        "def killed(*args):\n"
        "    killed.calls += 1\n"
        "    if killed.calls == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return compose(*args)\n"
        "killed.calls = 0\n"
        "scenes.compose = killed\n"
        "digits.write_digits(sys.argv[1], 4, 4)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert run.returncode == -9
    assert list(tmp_path.iterdir()), "killed before it wrote anything: shows nothing"
    assert not (tmp_path / "digits").exists()
    folder = digits.write_digits(tmp_path, 4, 4)
    assert len(annotations(folder, "train")["images"]) == 4


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    words = (tmp_path / "digits", "No space left on device", "DETECTRON2_DATASETS")
    with pytest.raises(UserError, match=naming(*words)):
        digits.write_digits(tmp_path, 1, 1)
    assert not list(tmp_path.iterdir())


def test_a_root_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=naming(tmp_path / "file/digits", "Not a directory")):
        digits.write_digits(tmp_path / "file", 1, 1)


def test_several_writers_at_once_leave_one_complete_dataset(tmp_path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        folders = pool.starmap(digits.write_digits, [(tmp_path, 6, 2)] * 2)
    assert set(folders) == {tmp_path / "digits"}
    assert os.listdir(tmp_path) == ["digits"]
    assert len(list((tmp_path / "digits" / "train").iterdir())) == 6


def test_losing_the_race_to_another_dataset_is_refused(tmp_path, monkeypatch):
    other = digits.write_digits(tmp_path / "other", 1, 1, seed=7)
    write_split = coco_folder.write_split

    def overtaken(*args):
        write_split(*args)
        if not (tmp_path / "digits").exists():
            other.rename(tmp_path / "digits")

    monkeypatch.setattr(coco_folder, "write_split", overtaken)
    with pytest.raises(UserError, match=naming(tmp_path / "digits", "seed 7", "seed 0")):
        digits.write_digits(tmp_path, 1, 1)
    assert sorted(os.listdir(tmp_path)) == ["digits", "other"]


@pytest.mark.parametrize("arguments", [{"num_train": 0}, {"num_val": -1}, {"seed": -1}])
def test_wrong_arguments_are_named(tmp_path, arguments):
    with pytest.raises(ValueError, match=naming(**arguments)):
        digits.write_digits(tmp_path, **arguments)


def test_without_scikit_learn_the_extra_is_named(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError("No module named 'sklearn'", name="sklearn")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=naming("sklearn", "pip install 'dynbackbones[demo]'")):
        digits.write_digits(tmp_path, 1, 1)


@pytest.mark.parametrize("angle", [-12, 0, 12])
@pytest.mark.parametrize("height", [28, 64])
def test_a_rendered_digit_has_the_size_asked_for_and_no_empty_border(height, angle):
    samples, _ = digits.load_samples()
    for sample in samples[:20]:
        ink = scenes.render(sample, height, angle)
        assert ink.min() >= 0
        assert ink.max() == 1
        assert scenes.tight_box(ink > 0)[2:] == ink.shape[::-1]
        assert abs((ink > 0.5).any(1).sum() - height) <= 0.2 * height + 2


def test_importing_the_package_loads_nothing_heavy():
    script = "import sys, dynbackbones.data; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"sklearn", "PIL", "pycocotools", "mmengine", "detectron2"} & set(loaded)
