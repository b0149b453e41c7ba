"""Datasets of OpenMMLab's libraries: empty ones, broken files, maps that are none."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.registry import DATASETS
from PIL import Image

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.checked_data import (
    CheckedLoading,
    classes_of,
    datasets_in,
    guard,
    named_if_empty,
    type_name,
)
from dynbackbones.integrations.mmengine.checked_runner import CheckedRunner
from dynbackbones.integrations.mmengine.seeded_data import CheckLabels, SeededDataset
from tests.fuzzing import fuzz
from tests.messages import naming


class LoadPixels:
    """As OpenMMLab's transforms read: with errors of their own, and no name."""

    def __call__(self, results):
        with Image.open(results["img_path"]) as image:
            results["img"] = np.asarray(image)
        results["ori_shape"] = results["img"].shape[:2]
        return results


class LoadMap:
    def __call__(self, results):
        with Image.open(results["seg_map_path"]) as image:
            results["gt_seg_map"] = np.asarray(image).astype(np.uint8)
        return results


@DATASETS.register_module()
class ListedImages(BaseDataset):
    """Images that its config lists."""

    def __init__(self, names=(), **options):
        self.names = names
        super().__init__(**options)

    def load_data_list(self):
        return [{"img_path": str(name)} for name in self.names]


@pytest.fixture
def sample(tmp_path):
    """An image and its label map, both sound."""
    Image.new("RGB", (12, 8)).save(tmp_path / "a.png")
    Image.fromarray(np.ones((8, 12), np.uint8)).save(tmp_path / "labels.png")
    return {"img_path": str(tmp_path / "a.png"), "seg_map_path": str(tmp_path / "labels.png")}


def load(sample):
    return CheckedLoading(LoadMap())(CheckedLoading(LoadPixels())(dict(sample)))


def test_sound_files_pass(sample):
    loaded = load(sample)
    assert loaded["gt_seg_map"].shape == loaded["ori_shape"] == (8, 12)
    assert CheckLabels(num_classes=2)(loaded) is loaded


@pytest.mark.parametrize("key", ["img_path", "seg_map_path"])
@pytest.mark.parametrize("kept", [None, 0, 40])
def test_a_broken_file_is_named(sample, key, kept):
    with open(sample[key], "rb+") as file:
        file.truncate(kept or 0)
    if kept is None:
        sample[key] += ".png"
    with pytest.raises(UserError, match=naming(sample[key], "exist" if kept is None else "copy")):
        load(sample)


class LoadBeginning:
    """As OpenCV reads: what is there, without a word."""

    def __call__(self, results):
        pixels = cv2.imdecode(np.fromfile(results["img_path"], np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        return results | {"img": pixels}


@pytest.mark.parametrize("tail", [b"", b"\0\0\0", b"more"])
def test_an_image_that_ends_early_is_named(tmp_path, tail):
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert CheckedLoading(LoadBeginning())({"img_path": str(path)})["img"].shape == (64, 64, 3)
    path.write_bytes(whole[: len(whole) // 2] + tail)
    with pytest.raises(UserError, match=naming("a.jpg", "truncated")):
        CheckedLoading(LoadBeginning())({"img_path": str(path)})


@pytest.mark.parametrize(
    ("name", "refused"), [("a.png", False), ("more/../a.png", False), ("../a.png", True)]
)
def test_a_list_that_names_what_lies_outside(tmp_path, name, refused):
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for place in (tmp_path, folder):
        Image.new("RGB", (12, 8)).save(place / "a.png")
    for root, outside in ((folder, refused), (tmp_path, False)):
        dataset = SimpleNamespace(
            ann_file="list.txt",
            data_root=str(root),
            data_prefix={"img_path": str(folder)},
            pipeline=SimpleNamespace(transforms=[LoadPixels()]),
        )
        guard(dataset)
        (load,) = dataset.pipeline.transforms
        path = f"{folder}/{name}"
        if outside:
            with pytest.raises(UserError, match=naming(path, "data_root")):
                load({"img_path": path})
        else:
            assert load({"img_path": path})["img"].shape == (8, 12, 3)


def test_an_error_that_is_not_the_files_keeps_its_traceback(sample):
    class LoadWrong:
        def __call__(self, results):
            return results["no such key"]

    with pytest.raises(KeyError):
        CheckedLoading(LoadWrong())(sample)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_map_in_colours_is_no_label_map(sample, mode):
    Image.new(mode, (12, 8)).save(sample["seg_map_path"])
    with pytest.raises(UserError, match=naming(sample["seg_map_path"], len(mode), "colours")):
        load(sample)
    Image.new("P", (12, 8)).save(sample["seg_map_path"])
    assert load(sample)["gt_seg_map"].shape == (8, 12)


def test_a_map_of_another_size(sample):
    Image.new("L", (8, 12)).save(sample["seg_map_path"])
    words = (sample["seg_map_path"], "12 x 8", "8 x 12")
    with pytest.raises(UserError, match=naming(*words, "mend it")):
        load(sample)
    exif = Image.Exif()
    exif[0x0112] = 6
    # As OpenCV does, which turns the image.
    Image.new("RGB", (8, 12)).save(sample["img_path"], exif=exif)
    turned = {**sample, "gt_seg_map": np.zeros((12, 8), np.uint8), "ori_shape": (8, 12)}
    with pytest.raises(UserError, match=naming(*words, "EXIF", "exiftool")):
        CheckLabels(num_classes=2)(turned)


@pytest.mark.parametrize("highest", [255, 256])
def test_class_numbers_that_mmseg_would_cut(sample, highest):
    values = np.full((8, 12), highest, np.uint16)
    Image.fromarray(values).save(sample["seg_map_path"])
    if highest == 255:
        assert load(sample)["gt_seg_map"].max() == 255
        return
    with pytest.raises(UserError, match=naming(sample["seg_map_path"], 256, 255)):
        load(sample)


def test_every_dataset_inside_is_guarded(sample):
    def listed():
        dataset = ListedImages(names=[sample["img_path"]], pipeline=[])
        dataset.pipeline.transforms = [LoadPixels(), dict]
        return dataset

    inner = [listed(), listed()]
    dataset = SeededDataset(ConcatDataset(inner))
    for part in inner:
        first, second = part.pipeline.transforms
        assert isinstance(first, CheckedLoading) and second is dict
    guard(dataset)
    assert isinstance(inner[0].pipeline.transforms[0].transform, LoadPixels)
    with open(sample["img_path"], "wb") as file:
        file.truncate(0)
    with pytest.raises(UserError, match=naming(sample["img_path"])):
        dataset[1, 0]


def test_an_empty_dataset_is_named_with_what_it_was_told(tmp_path):
    config = {"type": "ListedImages", "data_prefix": {"img_path": "img"}, "data_root": "here"}
    words = ("ListedImages", "data_root='here'", "'img'", "empty", "img_suffix")
    with pytest.raises(UserError, match=naming(*words)):
        SeededDataset(config)
    loader = {
        "dataset": {"type": "SeededDataset", "dataset": config},
        "sampler": {"type": "DefaultSampler"},
        "batch_size": 1,
    }
    with pytest.raises(UserError, match=naming(*words)):
        CheckedRunner.build_dataloader(loader)


def test_other_errors_are_left_alone():
    with pytest.raises(ValueError, match="broken"), named_if_empty({"type": "A"}, "dataset"):
        raise ValueError("broken")


def test_the_runners_data_are_guarded(sample):
    dataset = ListedImages(names=[sample["img_path"]], pipeline=[])
    dataset.pipeline.transforms = [LoadPixels()]
    loader = {"dataset": dataset, "sampler": {"type": "DefaultSampler"}, "batch_size": 1}
    built = CheckedRunner.build_dataloader(loader)
    assert isinstance(built.dataset.pipeline.transforms[0], CheckedLoading)


def test_names_of_configs():
    assert type_name({"type": "mmseg.A"}) == type_name({"type": type("A", (), {})}) == "A"
    parts = {"datasets": [{"type": "A"}, {"dataset": {"type": "B"}}]}
    assert [type_name(part) for part in datasets_in(parts)] == ["A", "B"]
    assert classes_of(SimpleNamespace(metainfo={"classes": ["a", 1]})) == ("a", "1")
    assert classes_of(SimpleNamespace(metainfo={})) == classes_of(object()) == ()


@fuzz(60)
@given(st.data())
def test_any_label_map_is_one_or_refused_by_name(tmp_path, data):
    path = tmp_path / "labels.png"
    mode = data.draw(st.sampled_from(["1", "L", "P", "RGB", "RGBA", "LA", "I;16"]))
    size = data.draw(st.sampled_from([(12, 8), (8, 12), (1, 1), (24, 16)]))
    value = data.draw(st.sampled_from([0, 1, 255] + [256, 65535] * (mode == "I;16")))
    Image.new(mode, size, value if len(mode) == 1 or mode == "I;16" else 0).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    results = {"seg_map_path": str(path), "ori_shape": (8, 12)}
    try:
        loaded = CheckedLoading(LoadMap())(results)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert loaded["gt_seg_map"].shape == (8, 12)
    with Image.open(path) as image:
        assert (loaded["gt_seg_map"] == np.asarray(image)).all()
