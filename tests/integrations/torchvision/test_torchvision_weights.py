import logging

import pytest
import torch

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.backbones.base import find_backbones
from dynbackbones.checkpoints.conversion import convert
from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.torchvision.weights import load_weights, weights_path
from tests.messages import names, naming


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("prefix", ["", "module.", "detector."])
def test_a_whole_detector(tiny_config, tmp_path, prefix):
    trained, fresh = build_detector(tiny_config()), build_detector(tiny_config())
    state = {prefix + key: value for key, value in trained.state_dict().items()}
    checkpoints.save(tmp_path / "a.pth", state, {})
    load_weights(fresh, str(tmp_path / "a.pth"))
    assert same(fresh.state_dict(), trained.state_dict())


def test_a_backbone_alone_says_what_was_left_out(tiny_config, tmp_path, caplog):
    backbone = dynbackbones.build_backbone("sar_resnet18")
    state = {**backbone.state_dict(), "fc.weight": torch.zeros(9, 512), "fc.bias": torch.zeros(9)}
    torch.save(state, tmp_path / "backbone.pth")
    model = build_detector(tiny_config())
    with caplog.at_level(logging.INFO):
        load_weights(model, str(tmp_path / "backbone.pth"), logging.getLogger("test"))
    assert same(find_backbones(model)[0].state_dict(), backbone.state_dict())
    assert "pyramid and heads start from scratch; left out fc.bias, fc.weight" in caplog.text
    caplog.clear()
    load_weights(model, str(tmp_path / "backbone.pth"), logging.getLogger("test"), whole=True)
    assert caplog.records[0].levelname == "WARNING"
    assert "pyramid and heads are not trained, and find nothing; left out fc" in caplog.text


@pytest.mark.parametrize("target", [None, "dynbackbones", "detectron2", "openmmlab"])
def test_a_classifier_starts_a_detector(tiny_config, tmp_path, caplog, target):
    backbone = dynbackbones.build_backbone("sar_resnet18").state_dict()
    state = {f"backbone.{key}": value for key, value in backbone.items()}
    state |= {"head.fc.weight": torch.zeros(9, 512), "head.fc.bias": torch.zeros(9)}
    path, classifier = tmp_path / "a.pth", "head.fc."
    torch.save({"state_dict": state, "meta": {}}, path)
    if target is not None:
        conversion = convert(path, target)
        path, classifier = tmp_path / "converted.pth", conversion.layout.classifier
        conversion.save(path, {})
    model = build_detector(tiny_config())
    with caplog.at_level(logging.INFO):
        load_weights(model, str(path), logging.getLogger("test"))
    assert same(find_backbones(model)[0].state_dict(), backbone)
    assert caplog.text.endswith(f"scratch; left out {classifier}bias, {classifier}weight\n")


def test_torchvisions_resnet(tiny_config, tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(1)
    theirs = resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    model = build_detector(tiny_config("retinanet"))
    load_weights(model, str(tmp_path / "resnet18.pth"))
    assert torch.equal(find_backbones(model)[0].conv1.weight, theirs.conv1.weight)


@pytest.mark.parametrize("options", [{"MODEL__SAR__DEPTH": "34"}, {"MODEL__SAR__GROUPS": "4"}])
def test_another_architecture(tiny_config, tmp_path, options):
    checkpoints.save(tmp_path / "a.pth", build_detector(tiny_config()).state_dict(), {})
    model = build_detector(tiny_config(**options))
    with pytest.raises(UserError, match=naming(tmp_path / "a.pth", "architecture")) as error:
        load_weights(model, str(tmp_path / "a.pth"))
    assert "\n" not in str(error.value)


def test_a_backbone_of_another_architecture(tiny_config, tmp_path):
    state = dynbackbones.build_backbone("sar_resnet18", groups=4).state_dict()
    checkpoints.save(tmp_path / "a.pth", state, {})
    with pytest.raises(UserError, match=naming(tmp_path / "a.pth", "another shape")):
        load_weights(build_detector(tiny_config()), str(tmp_path / "a.pth"))


@pytest.mark.parametrize("url", ["detectron2://a.pkl", "torchvision://resnet50", "https://a/b.pth"])
def test_nothing_is_downloaded(tiny_config, url):
    with pytest.raises(UserError, match=naming("MODEL.WEIGHTS", url, "download")):
        load_weights(build_detector(tiny_config()), url)


def test_weights_of_the_run(tiny_config, tmp_path):
    cfg = tiny_config()
    with pytest.raises(
        UserError, match=naming("MODEL.WEIGHTS", tmp_path / "out" / "model_final.pth")
    ):
        weights_path(cfg)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model_final.pth").write_text("")
    assert weights_path(cfg) == str(tmp_path / "out" / "model_final.pth")
    assert weights_path(tiny_config(MODEL__WEIGHTS="other.pth")) == "other.pth"


@pytest.mark.parametrize("kind", ["sar_retinanet", "sar_faster_rcnn"])
def test_another_number_of_classes_leaves_the_last_layers_untrained(
    tiny_config, tmp_path, caplog, kind
):
    key = f"MODEL__{'RETINANET' if kind == 'sar_retinanet' else 'ROI_HEADS'}__NUM_CLASSES"
    trained = build_detector(tiny_config(kind))
    checkpoints.save(tmp_path / "a.pth", trained.state_dict(), {})
    model = build_detector(tiny_config(kind, **{key: "7"}))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = str(tmp_path / "a.pth")
    with pytest.raises(UserError, match=naming("a.pth", "another shape", "classes")):
        load_weights(model, path, whole=True)
    assert same(model.state_dict(), before)
    with caplog.at_level(logging.INFO):
        load_weights(model, path, logging.getLogger("test"))
    theirs, after = trained.state_dict(), model.state_dict()
    other = {name for name in after if after[name].shape != theirs[name].shape}
    assert other and all(torch.equal(after[name], before[name]) for name in other)
    assert all(torch.equal(after[name], theirs[name]) for name in after.keys() - other)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == len(other)
    assert all(any(names(text, name, "a.pth", "untrained") for text in warned) for name in other)


def test_a_detector_of_the_other_engine_names_it(tiny_config, tmp_path):
    model = build_detector(tiny_config())
    state = model.state_dict()
    theirs = {k.replace(".body.", ".bottom_up.net."): v for k, v in state.items()}
    torch.save({"model": theirs}, tmp_path / "a.pth")
    other = {"model": {**state, "x": torch.ones(1)}, "meta": {"engine": "detectron2"}}
    torch.save(other, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        with pytest.raises(UserError, match=naming(name, "--engine detectron2")):
            load_weights(model, str(tmp_path / name), whole=True)
