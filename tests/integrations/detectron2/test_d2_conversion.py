"""From a classifier's checkpoint to a detector, directly and through the converter."""

import logging
import pickle

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling import build_model

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.checkpoints import names as key_maps
from dynbackbones.checkpoints.conversion import convert
from dynbackbones.errors import UserError
from dynbackbones.integrations.detectron2.checkpointer import CheckedCheckpointer
from tests.messages import naming

pytestmark = pytest.mark.detectron2

RESNET = ["MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone"]
RESNET += ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
FASTER = ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"]
FASTER += ["MODEL.BACKBONE.NAME", "build_sar_resnet_fpn_backbone"]
FASTER += ["MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]]
FASTER += ["MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]]
FASTER += ["MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]]
FASTER += ["MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_BOX_HEAD.FC_DIM", 16]
FASTER += ["MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]]
FASTER += ["MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1]
NO_PYRAMID = ["MODEL.BACKBONE.NAME", "build_sar_resnet_backbone"]
NO_PYRAMID += ["MODEL.RETINANET.IN_FEATURES", ["res3", "res4", "res5"]]
NO_PYRAMID += ["MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128]]]
BLOCKDROP = ["MODEL.BACKBONE.NAME", "build_retinanet_blockdrop_resnet_fpn_backbone"]
BLOCKDROP += [*RESNET[2:], "MODEL.RESNETS.NORM", "BN"]


@pytest.fixture
def classifier(tmp_path):
    """Writes a classifier's checkpoint as mmpretrain does; returns its backbone and the path."""

    def write(name):
        torch.manual_seed(1)
        backbone = dynbackbones.build_backbone(name).state_dict()
        state = {f"backbone.{key}": value for key, value in backbone.items()}
        head = {"head.fc.weight": torch.ones(9, 512), "head.fc.bias": torch.ones(9)}
        path = tmp_path / "classifier.pth"
        torch.save({"state_dict": {**state, **head}, "meta": {"epoch": 3}}, path)
        return backbone, str(path)

    return write


def bottom_up_state(model):
    bottom_up = getattr(model.backbone, "bottom_up", model.backbone)
    net = getattr(bottom_up, "net", None)
    return net.state_dict() if net else key_maps.rename_detectron2(bottom_up.state_dict())


@pytest.mark.parametrize(
    ("name", "options", "converted"),
    [
        ("sar_resnet18", [], None),
        ("sar_resnet18", [], ""),
        ("sar_resnet18", FASTER, "default"),
        ("sar_resnet18", NO_PYRAMID, "backbone.net."),
        ("blockdrop_resnet18", BLOCKDROP, "default"),
        ("resnet18", RESNET, None),
        ("resnet18", RESNET, "backbone."),
        ("resnet18", BLOCKDROP, "default"),
    ],
)
def test_a_classifier_starts_a_detector(
    config, classifier, tmp_path, caplog, monkeypatch, name, options, converted
):
    from dynbackbones.integrations.detectron2.trainer import Trainer

    backbone, path = classifier(name)
    head = ["head.fc.bias", "head.fc.weight"]
    if converted is not None:
        prefix = None if converted == "default" else converted
        conversion = convert(path, "detectron2", prefix=prefix)
        path = str(tmp_path / "converted.pth")
        conversion.save(path, {})
        head = [conversion.layout.classifier + part for part in ("bias", "weight")]
    model = Trainer.build_model(config(*options))
    # detectron2's setup, which other tests run, keeps this logger's lines to its own handlers.
    monkeypatch.setattr(logging.getLogger("fvcore"), "propagate", True)
    with caplog.at_level(logging.INFO):
        CheckedCheckpointer(model).load(path)
    loaded = bottom_up_state(model)
    compared = [key for key in backbone if not key.endswith("num_batches_tracked")]
    assert all(torch.equal(loaded[key], backbone[key]) for key in compared)
    assert f"pyramid and heads start from scratch; left out {', '.join(head)}\n" in caplog.text


def test_a_spatial_context_network_starts_a_detector(config, tmp_path, caplog, monkeypatch):
    from dynbackbones.integrations.detectron2.trainer import Trainer

    torch.manual_seed(1)
    backbone = dynbackbones.build_backbone("resnet18").state_dict()
    state = {f"backbone.{key}": value for key, value in backbone.items()}
    state |= {"neck.location.weight": torch.ones(512, 8), "scaling.mean": torch.ones(1280)}
    torch.save({"state_dict": state, "meta": {"iter": 4}}, tmp_path / "context.pth")
    model = Trainer.build_model(config(*RESNET))
    monkeypatch.setattr(logging.getLogger("fvcore"), "propagate", True)
    with caplog.at_level(logging.INFO):
        CheckedCheckpointer(model).load(str(tmp_path / "context.pth"))
    loaded = bottom_up_state(model)
    compared = [key for key in backbone if not key.endswith("num_batches_tracked")]
    assert all(torch.equal(loaded[key], backbone[key]) for key in compared)
    assert "left out neck.location.weight, scaling.mean\n" in caplog.text


def test_detectron2s_own_checkpointer_takes_the_default_names(config, classifier, tmp_path):
    from detectron2.checkpoint import DetectionCheckpointer

    from dynbackbones.integrations.detectron2.trainer import Trainer

    backbone, path = classifier("resnet18")
    convert(path, "detectron2").save(tmp_path / "converted.pth", {})
    model = Trainer.build_model(config(*RESNET))
    DetectionCheckpointer(model).load(str(tmp_path / "converted.pth"))
    assert torch.equal(bottom_up_state(model)["conv1.weight"], backbone["conv1.weight"])


@pytest.mark.parametrize("name", ["resnet18", "sar_resnet18"])
def test_the_converter_runs_detectron2s_network(classifier, tmp_path, name):
    from dynbackbones.cli import verification

    _, path = classifier(name)
    conversion = convert(path, "detectron2")
    result = verification.verify(conversion)
    assert result.networks[-1] == "detectron2 (the result)"
    assert result.relative < 1e-5
    conversion.save(tmp_path / "there.pth", result.as_meta())
    back = convert(tmp_path / "there.pth", "openmmlab").state()
    state = checkpoints.state_dict_of(checkpoints.load(path))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_caffe2s_names_are_matched_as_detectron2_does(tmp_path):
    from dynbackbones.cli import verification

    net = dynbackbones.build_backbone("resnet50", stride_in_1x1=True)
    state = {}
    for key, value in net.state_dict().items():
        name = key_maps.to_detectron2(key)
        layer, _, kind = name.rpartition(".")
        if kind not in ("weight", "bias"):
            continue
        norm = layer.endswith(".norm")
        layer = layer.removesuffix(".norm")
        for old, new in (
            ("stem.conv1", "res_conv1" if norm else "conv1"),
            ("shortcut", "branch1"),
            ("conv1", "branch2a" if layer.startswith("res") else "conv1"),
            ("conv2", "branch2b"),
            ("conv3", "branch2c"),
        ):
            if layer.endswith(old):
                layer = layer.removesuffix(old) + new
                break
        end = ("bn_s" if norm else "w") if kind == "weight" else "bn_b"
        state[f"{layer.replace('.', '_')}_{end}"] = value
    torch.save({"model": state}, tmp_path / "caffe2.pth")
    result = verification.verify(convert(tmp_path / "caffe2.pth", "detectron2"))
    assert result.networks == ["detectron2 (the file)", "detectron2 (the result)"]
    assert result.relative < 1e-5


def test_weights_for_other_pixels_are_named(config, tmp_path, caplog):

    model = build_model(config("INPUT.FORMAT", "BGR"))
    path, meta = tmp_path / "rgb.pth", {"cfg": "data_preprocessor = dict(to_rgb=True)"}
    net = model.backbone.bottom_up.net
    torch.save({"state_dict": net.state_dict(), "meta": meta}, path)
    with caplog.at_level(logging.WARNING):
        CheckedCheckpointer(model).load(str(path))
    assert f"{path} was trained on RGB images, and INPUT.FORMAT is BGR" in caplog.text


class Extra:
    """What somebody's code keeps beside the weights."""

    def __init__(self):
        self.rates = [0.5]

    def __setstate__(self, state):
        raise AssertionError("run")


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_objects_beside_the_weights_are_left_out_and_not_run(config, tmp_path, caplog, suffix):
    cfg = config()
    trained, model = build_model(cfg), build_model(cfg)
    path = tmp_path / f"a{suffix}"
    if suffix == ".pkl":
        weights = {key: value.numpy() for key, value in trained.state_dict().items()}
        content = {"model": weights, "__author__": "somebody", "extra": Extra()}
        path.write_bytes(pickle.dumps(content))
    else:
        wrapped = {f"module._orig_mod.{k}": v for k, v in trained.state_dict().items()}
        torch.save({"net": wrapped, "acc": 0.5, "extra": Extra()}, path)
    with caplog.at_level(logging.INFO):
        CheckedCheckpointer(model).load(str(path))
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in trained.state_dict().items())
    assert f"not loaded: {__name__}.Extra" in caplog.text


def test_a_detector_of_the_other_engine_names_it(config, tmp_path):
    model = build_model(config())
    state = {k.replace(".bottom_up.net.", ".body."): v for k, v in model.state_dict().items()}
    checkpoints.save(tmp_path / "a.pth", state, {"engine": "torchvision"})
    with pytest.raises(UserError, match=naming("a.pth", "--engine torchvision", "convert")):
        CheckedCheckpointer(model, allow_other_heads=True).load(str(tmp_path / "a.pth"))
