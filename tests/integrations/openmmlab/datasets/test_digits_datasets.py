import pytest
from mmengine.registry import init_default_scope

from dynbackbones.demo import wide_digits
from dynbackbones.integrations.openmmlab.datasets.digits import DigitsDataset, WideDigitsDataset
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


@pytest.mark.parametrize(
    ("kind", "splits"), [(DigitsDataset, ("train", "val")), (WideDigitsDataset, ("gains",))]
)
def test_an_unknown_split_is_refused(kind, splits):
    with pytest.raises(ValueError, match=naming("split", repr("test"), *splits)):
        kind("test", PIPELINE)
