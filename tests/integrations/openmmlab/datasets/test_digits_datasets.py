import pytest
from mmengine.registry import init_default_scope

from dynbackbones.demo import digit_videos, wide_digits
from dynbackbones.integrations.openmmlab.datasets.digits import (
    DigitsDataset,
    DigitVideosDataset,
    WideDigitsDataset,
)
from tests.messages import naming

PIPELINE = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]


@pytest.mark.parametrize(
    ("split", "size"), [("train", (192, 256)), ("gains", (768, 1024)), ("val", (768, 1024))]
)
def test_wide_scenes_and_their_masks(tmp_path, monkeypatch, split, size):
    init_default_scope("mmseg")
    monkeypatch.setattr(wide_digits, "SPLITS", {"train": 2, "gains": 1, "val": 1})
    dataset = WideDigitsDataset(split, PIPELINE, data_root=tmp_path)
    assert len(dataset) == (2 if split == "train" else 1)
    loaded = dataset[0]
    assert loaded["img"].shape == (*size, 3)
    assert loaded["gt_seg_map"].shape == size
    assert (loaded["gt_seg_map"] > 0).any()
    assert loaded["gt_seg_map"].max() < len(dataset.metainfo["classes"])


def test_frames_of_a_clip_and_their_masks(tmp_path, monkeypatch):
    init_default_scope("mmseg")
    monkeypatch.setattr(digit_videos, "CLIPS", {"bursts": 2, "pan": 1})
    dataset = DigitVideosDataset("bursts", PIPELINE, data_root=tmp_path)
    names = [dataset.get_data_info(index)["img_path"] for index in range(len(dataset))]
    assert [name[-10:] for name in names] == ["000000.jpg", "000001.jpg"]
    loaded = dataset[1]
    assert loaded["img"].shape == (192, 256, 3)
    assert set(loaded["gt_seg_map"].flat) <= set(range(6)) and loaded["gt_seg_map"].any()


@pytest.mark.parametrize(
    ("kind", "splits"),
    [
        (DigitsDataset, ("train", "val")),
        (WideDigitsDataset, ("gains",)),
        (DigitVideosDataset, ("bursts", "pan")),
    ],
)
def test_an_unknown_split_is_refused(kind, splits):
    with pytest.raises(ValueError, match=naming("split", repr("test"), *splits)):
        kind("test", PIPELINE)
