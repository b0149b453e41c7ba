"""From mmpretrain's checkpoint to mmseg, directly and through the converter."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import ImageClassifier, ResNet

import dynbackbones.integrations.openmmlab  # noqa: F401  (registers)
from dynbackbones import build_backbone, checkpoints
from dynbackbones.checkpoints.conversion import convert
from dynbackbones.cli import library_networks, verification


@pytest.fixture
def classifier(tmp_path):
    """Writes a classifier's checkpoint as mmpretrain does."""

    def write(kind):
        torch.manual_seed(1)
        head = {"type": "mmpretrain.LinearClsHead", "num_classes": 9, "in_channels": 512}
        backbone = {"type": kind, "depth": 18}
        model = ImageClassifier(backbone, {"type": "mmpretrain.GlobalAveragePooling"}, head)
        path = tmp_path / "classifier.pth"
        torch.save({"state_dict": model.state_dict(), "meta": {"cfg": "x = 1"}}, path)
        return model, str(path)

    return write


@pytest.mark.parametrize("kind", ["mmpretrain.ResNet", "SARResNet"])
def test_the_converter_runs_openmmlabs_network_both_ways(classifier, tmp_path, kind):
    model, path = classifier(kind)
    there = convert(path, "dynbackbones")
    assert there.source.format == "openmmlab"
    result = verification.verify(there)
    assert result.networks == ["openmmlab (the file)", "dynbackbones (the result)"]
    assert not result.problems and result.relative < 1e-5
    there.save(tmp_path / "there.pth", {})
    back = convert(tmp_path / "there.pth", "openmmlab")
    assert verification.verify(back).networks[-1] == "openmmlab (the result)"
    state = back.state()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_strides_in_1x1_are_caffes_style():
    from dynbackbones.checkpoints.conversion import Architecture

    built = library_networks._openmmlab_backbone(Architecture("resnet50", {"stride_in_1x1": True}))
    assert isinstance(built, ResNet)
    assert built.layer2[0].conv1.stride == (2, 2)


@pytest.mark.parametrize("kind", ["SARResNet", "BlockDropResNet", "StaticResNet"])
def test_a_classifiers_checkpoint_starts_a_segmentors_backbone(classifier, monkeypatch, kind):
    model, path = classifier(kind)
    lines = printed(monkeypatch)
    source = {"type": "Pretrained", "checkpoint": path, "prefix": "backbone."}
    backbone = MODELS.build({"type": kind, "depth": 18, "output_stride": 8, "init_cfg": source})
    backbone.init_weights()
    loaded = backbone.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in model.backbone.state_dict().items())
    assert lines == [f"{kind}: loaded {path}; left out head.fc.bias, head.fc.weight"]


def test_a_converted_checkpoint_starts_a_segmentor(tiny_config, classifier, tmp_path, monkeypatch):
    model, path = classifier("SARResNet")
    convert(path, "detectron2").save(tmp_path / "detectron2.pth", {})
    path = str(tmp_path / "converted.pth")
    convert(tmp_path / "detectron2.pth", "openmmlab").save(path, {})
    lines = printed(monkeypatch)
    cfg = tiny_config()
    cfg.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": path, "prefix": "backbone."}
    init_default_scope("mmseg")
    segmentor = MODELS.build(cfg.model)
    segmentor.init_weights()
    loaded = segmentor.backbone.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in model.backbone.state_dict().items())
    assert lines == [f"SARResNet: loaded {path}; left out head.fc.bias, head.fc.weight"]


def printed(monkeypatch):
    """What is logged about weights, as a list that grows."""
    lines = []
    monkeypatch.setattr(
        "dynbackbones.integrations.openmmlab.weights.print_log",
        lambda line, logger: lines.append(line),
    )
    return lines


def test_mmsegs_own_resnet_takes_a_converted_checkpoint(tmp_path):
    from mmseg.models.backbones import ResNet as SegmentationResNet

    state = build_backbone("resnet18").state_dict()
    checkpoints.save(tmp_path / "own.pth", state, {})
    convert(tmp_path / "own.pth", "openmmlab").save(tmp_path / "mm.pth", {})
    source = {"type": "Pretrained", "checkpoint": str(tmp_path / "mm.pth"), "prefix": "backbone."}
    net = SegmentationResNet(18, init_cfg=source)
    net.init_weights()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
