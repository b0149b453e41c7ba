"""Checkpoints of runs of mmengine's own, without anything of this package, at every door."""

import pickle

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner
from PIL import Image

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


CLASSIFIER = """
default_scope = "mmpretrain"
pipeline = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]
dataset = dict(type="CustomDataset", data_root={root!r}, pipeline=pipeline)
loader = dict(batch_size=2, num_workers=0, dataset=dataset)
train_dataloader = dict(sampler=dict(type="DefaultSampler", shuffle=True), **loader)
val_dataloader = dict(sampler=dict(type="DefaultSampler", shuffle=False), **loader)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type="Accuracy", topk=(1,))
train_cfg, val_cfg, test_cfg = dict(by_epoch=True, max_epochs={epochs}), dict(), dict()
optim_wrapper = dict(optimizer=dict(type="SGD", lr={rate}, momentum=0.9))
default_hooks = dict(logger=dict(type="LoggerHook", interval=1), checkpoint=dict(
    type="CheckpointHook", interval=1, save_best="auto"))
model = dict(type="ImageClassifier", backbone={backbone},
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=2, in_channels=512))
{more}
"""


def test_every_door_takes_a_stock_checkpoint_of_mmpretrains(tool, tmp_path):
    for name in ("cat", "dog"):
        for number in range(2):
            file = tmp_path / "images" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (48, 48), (9, 99 * number, 9)).save(file)

    def config(backbone="dict(type='ResNet', depth=18)", epochs=1, rate=0.01, more=""):
        values = {"backbone": backbone, "epochs": epochs, "rate": rate, "more": more}
        path = tmp_path / "classifier.py"
        path.write_text(CLASSIFIER.format(root=str(tmp_path / "images"), **values))
        return path

    cfg = Config.fromfile(config())
    cfg.work_dir = str(tmp_path / "work")
    Runner.from_cfg(cfg).train()
    file = tmp_path / "work" / "epoch_1.pth"
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    weight = torch.load(file, weights_only=False)["state_dict"]["backbone.conv1.weight"]

    tool("test", config(), file, "--work-dir", tmp_path / "test")
    tool("train", config(epochs=2), "--work-dir", tmp_path / "resumed", "--resume", file)
    assert torch.load(tmp_path / "resumed" / "epoch_2.pth", weights_only=True)["meta"]["epoch"] == 2
    ours = "dict(type='StaticResNet', depth=18, out_indices=(3,){})"
    imports = "custom_imports = dict(imports=['dynbackbones.integrations.openmmlab'])\n"
    init = f", init_cfg=dict(type='Pretrained', checkpoint={str(file)!r}, prefix='backbone.')"
    starts = {"from": ("", f"load_from = {str(file)!r}"), "init": (init, "")}
    for name, (option, line) in starts.items():
        start = config(ours.format(option), rate=0.0, more=imports + line)
        tool("train", start, "--work-dir", tmp_path / name)
        state = torch.load(tmp_path / name / "epoch_1.pth", weights_only=True)["state_dict"]
        assert torch.equal(state["backbone.conv1.weight"], weight)
    assert torch.equal(convert(file, "torchvision").state()["conv1.weight"], weight)
    net = dynbackbones.build_backbone("resnet18")
    assert dynbackbones.load_weights(net, file).left_out == (
        "head.fc.bias",
        "head.fc.weight",
    )
