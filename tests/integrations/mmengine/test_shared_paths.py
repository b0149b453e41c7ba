import pytest
from mmengine.config import Config

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.shared_paths import share_paths
from dynbackbones.integrations.shipped_configs import find_config
from tests.messages import naming


def config():
    folder = {"data_root": "data/a", "prefix": "img"}
    return Config({
        "data_root": "data/a",
        "proposals": None,
        "train_dataloader": {
            "dataset": {"dataset": {**folder, "proposals": None, "ann": "data/a/x.json"}},
        },
        "val_dataloader": {"dataset": [folder, {"data_root": "data/ab", "proposals": "b.json"}]},
        "calibration_dataset": dict(folder),
        "val_evaluator": {"ann_file": "data/a/y.json", "collect": None},
        "model": {"pretrained": "data/a/weights.pth"},
    })  # fmt: skip


@pytest.mark.parametrize("new", ["my/images", "my/images/"])
def test_what_lies_below_follows(new):
    cfg, before = config(), config()
    share_paths(cfg, {"data_root": new, "proposals": "boxes.json", "other": 1})
    train = cfg.train_dataloader.dataset.dataset
    assert train == {
        "data_root": new, "prefix": "img", "proposals": "boxes.json", "ann": "my/images/x.json",
    }  # fmt: skip
    first, second = cfg.val_dataloader.dataset
    assert first.data_root == cfg.calibration_dataset.data_root == new
    # These were never taken from the top.
    assert second == before.val_dataloader.dataset[1]
    assert cfg.val_evaluator == {"ann_file": "my/images/y.json", "collect": None}
    assert cfg.model == before.model


def test_without_such_an_override_nothing_changes():
    cfg = config()
    share_paths(cfg, {"train_dataloader.dataset.dataset.data_root": "elsewhere"})
    assert cfg.to_dict() == config().to_dict()


def test_an_override_that_would_do_nothing_is_refused():
    cfg = Config({"train_dataloader": {"dataset": {"data_root": "data/b"}}})
    words = ("data_root=c", "train_dataloader.dataset.data_root")
    with pytest.raises(UserError, match=naming(*words)):
        share_paths(cfg, {"data_root": "c"})


@pytest.mark.parametrize("name", ["resnet50_images", "resnet18_camvid-small", "resnet18_digits"])
def test_pretraining_on_images_takes_a_folder_by_one_override(name):
    cfg = Config.fromfile(find_config(f"configs/pretrain/scn_{name}.py"))
    share_paths(cfg, {"data_root": "my/images", "proposals": "boxes.json"})
    for part in ("train_dataloader", "val_dataloader", "test_dataloader"):
        dataset = cfg[part].dataset
        dataset = dataset.get("dataset", dataset)
        assert (dataset.data_root, dataset.proposals) == ("my/images", "boxes.json"), part
