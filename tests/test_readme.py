"""What the README shows runs; its diffs are tested with detectron2."""

import re
import warnings

import pytest
import torch

import dynbackbones
from dynbackbones.backbones.dynamic import PATIENCE
from tests.readme import README, block


def run(text, **names):
    """What a block defines."""
    exec(compile(text, str(README), "exec"), names)
    return names


def test_the_networks():
    text = block("python", "dynbackbones.calibrate(")
    found = run(text)
    shapes = {name: tuple(value.shape[1:]) for name, value in found["features"].items()}
    assert shapes["res2"] == (256, 56, 80) and shapes["res5"] == (2048, 7, 10)
    net = found["net"]
    assert f'net.feature_info["res4"]  # {net.feature_info["res4"]}' in text
    assert net.decisions.activation_rate.shape == net.decisions.macs.shape == (2,)
    assert isinstance(found["fast"], dynbackbones.SARResNet)


@pytest.fixture
def batches():
    """More than the passes after which a loop that moves no schedules is warned of."""
    torch.manual_seed(0)
    images = [torch.rand(3, 48, 64), torch.rand(3, 64, 64)]
    target = {"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    return [(images, [target, target])] * (PATIENCE + 1)


@pytest.mark.parametrize("backbone", ["sar_resnet18", "blockdrop_resnet18", "resnet18"])
def test_the_loop_of_torchvision(batches, backbone, capsys, monkeypatch):
    from torchvision.models.detection import retinanet

    def small(*arguments):
        return whole(*arguments, min_size=64, max_size=64)

    whole = retinanet.RetinaNet
    monkeypatch.setattr("torchvision.models.detection.RetinaNet", small)
    train = run(block("python", "class Pyramid"))["train"]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*set_progress.*")
        model = train(batches if backbone.startswith("sar") else batches[:2], 3, backbone)
    net = model.backbone.net
    assert re.fullmatch(r"(\d+ \d+\.\d+(e-\d+)?\n)+", capsys.readouterr().out)
    assert len(set(net.decisions.image_sizes)) == 2
    if backbone.startswith("sar"):
        assert net.progress == pytest.approx(PATIENCE / (PATIENCE + 1))
        assert all(p.grad is not None for p in net.own_parameters()["selector"])


def test_the_dataset_of_ones_own(tmp_path, monkeypatch):
    from dynbackbones.integrations.torchvision.config import load_config

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(block("yaml", "COCO_FORMAT"))
    cfg = load_config("mine.yaml")
    assert cfg.DATASETS.COCO_FORMAT.my_val == ["mine/val.json", "mine/images"]
    assert (cfg.DATASETS.TEST, cfg.MODEL.RETINANET.NUM_CLASSES) == (("my_val",), 3)
    assert cfg.MODEL.BACKBONE.NAME == "build_retinanet_sar_resnet_fpn_backbone"


def test_the_config_of_mmseg(tmp_path):
    mmseg = pytest.importorskip("mmseg")
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    from dynbackbones.integrations.openmmlab.checks import load_config
    from dynbackbones.integrations.openmmlab.head_checks import check_heads

    base = f"{mmseg.__path__[0]}/.mim/configs/_base_/models/pspnet_r50-d8.py"
    config = tmp_path / "mine.py"
    config.write_text(f"_base_ = {base!r}\n" + block("python", "custom_hooks"))
    cfg = load_config(config)
    assert cfg.custom_hooks == [{"type": "DynamicBackboneHook"}]
    init_default_scope("mmseg")
    cfg.model.update(data_preprocessor=None)
    model = MODELS.build(cfg.model)
    check_heads(model)
    assert type(model.backbone).__name__ == "SARResNet"
    assert model.backbone.feature_info["res5"].stride == 16
