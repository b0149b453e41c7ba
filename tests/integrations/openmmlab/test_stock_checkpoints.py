"""Checkpoints of runs of mmengine's own, without anything of this package, at every door."""

import pickle

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner

import dynbackbones
from dynbackbones.checkpoints.conversion import convert
from dynbackbones.integrations.torchvision.config import load_config
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.torchvision.weights import load_weights

PLAIN = "mmseg/r18_pspnet_1xb4-3k_camvid-240x320.py"
# mmseg's own, with the weights of torchvision's.
STOCK = {
    "type": "mmseg.ResNet",
    "depth": 18,
    "num_stages": 4,
    "out_indices": (0, 1, 2, 3),
    "norm_cfg": {"type": "BN"},
    "style": "pytorch",
}


@pytest.fixture(autouse=True)
def own_loaders():
    """mmengine's loaders stay as they are."""
    before = CheckpointLoader._schemes
    CheckpointLoader._schemes = dict(before)
    yield
    CheckpointLoader._schemes = before


@pytest.fixture
def stock_config(tiny_config, tmp_path):
    def make(name="stock.py", **overrides):
        cfg = tiny_config(PLAIN, **overrides)
        cfg.model.backbone = STOCK
        cfg.custom_hooks = []
        cfg.train_dataloader.sampler = {"type": "InfiniteSampler"}
        cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.dataset
        cfg.dump(tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def stock_file(stock_config, tmp_path):
    Runner.from_cfg(Config.fromfile(stock_config())).train()
    path = tmp_path / "work" / "iter_2.pth"
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    return path


def test_every_door_takes_a_stock_checkpoint(
    stock_file, stock_config, config_file, tool, tmp_path, capfd
):
    stock = torch.load(stock_file, weights_only=False)
    weight = stock["state_dict"]["backbone.conv1.weight"]

    tool("test", stock_config(), stock_file, "--work-dir", tmp_path / "test")
    assert "not loaded: mmengine.logging.history_buffer.HistoryBuffer" in capfd.readouterr().out

    longer = stock_config(train_cfg__max_iters=4)
    tool("train", longer, "--work-dir", tmp_path / "resumed", "--resume", stock_file)
    # What the tools write is read by anybody.
    resumed = torch.load(tmp_path / "resumed" / "iter_4.pth", weights_only=True)
    assert resumed["meta"]["iter"] == 4
    assert resumed["optimizer"]["state"].keys() == stock["optimizer"]["state"].keys()

    for overrides in (
        {"load_from": str(stock_file)},
        {
            "model__backbone__init_cfg": {
                "type": "Pretrained",
                "checkpoint": str(stock_file),
                "prefix": "backbone.",
            }
        },
    ):
        config = config_file(PLAIN, optim_wrapper__optimizer__lr=0.0, **overrides)
        work = tmp_path / f"started{len(list(tmp_path.iterdir()))}"
        tool("train", config, "--work-dir", work)
        started = torch.load(work / "iter_2.pth", weights_only=True)["state_dict"]
        assert torch.equal(started["backbone.conv1.weight"], weight)

    conversion = convert(stock_file, "torchvision")
    assert torch.equal(conversion.state()["conv1.weight"], weight)
    net = dynbackbones.build_backbone("resnet18")
    report = dynbackbones.load_weights(net, stock_file)
    assert "HistoryBuffer" in str(report)
    assert torch.equal(net.conv1.weight, weight)


def test_the_weights_of_a_detector(stock_file):
    from dynbackbones.integrations.shipped_configs import find_config

    cfg = load_config(find_config("configs/demo/retinanet.yaml"), [])
    detector = build_detector(cfg)
    load_weights(detector, str(stock_file))
    state = torch.load(stock_file, weights_only=False)["state_dict"]
    assert torch.equal(
        detector.state_dict()["backbone.body.conv1.weight"], state["backbone.conv1.weight"]
    )
