from pathlib import Path

import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmengine.registry import METRICS, MODELS
from mmengine.runner import load_state_dict
from mmpretrain.structures import DataSample

import dynbackbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.glance_focus_classifier import GlanceFocus
from tests.classifiers.made import FOCUS, focused, images, leave_apart
from tests.messages import naming

CONFIGS = sorted((Path(__file__).parents[4] / "configs/pretrain").glob("glance_focus_*.py"))
OPTIONS = {"name": FOCUS, "num_classes": 10, "patch": 24, "steps": 4}


def classifier(**options):
    """One whose parts have all been trained."""
    model = GlanceFocus(dict(OPTIONS), **options)
    model.net.load_state_dict(focused().state_dict())
    return model


def samples(count=4):
    return [DataSample().set_gt_label(index) for index in range(count)]


def scenes():
    return images(4, (64, 64))


@pytest.mark.parametrize("stage", ["warm_up", "policy", "fine_tune"])
def test_stages_train_and_predict_as_the_classifier_does(stage):
    model = classifier(stage=stage).train()
    losses = model(scenes(), samples(), mode="loss")
    assert ("loss_policy" in losses) == (stage == "policy")
    sum(value for key, value in losses.items() if "loss" in key).backward()
    model.eval()
    dynbackbones.calibrate(model.net, scenes(), target_rate=0.5)
    scores = model(scenes())
    found = model.net.decisions
    assert len(found.steps.unique()) > 1
    for index, sample in enumerate(model(scenes(), samples(), mode="predict")):
        assert torch.allclose(sample.pred_score, scores[index].exp())
        assert sample.focus_steps == int(found.steps[index])
        assert torch.equal(sample.focus_boxes, found.boxes[index])
        assert sample.macs == float(found.macs[index])


def test_the_metric_tells_steps_and_macs():
    model = classifier().eval()
    dynbackbones.calibrate(model.net, scenes(), target_rate=0.5)
    metric = METRICS.build({"type": "FocusUsage"})
    metric.process(None, [s.to_dict() for s in model(scenes(), samples(), mode="predict")])
    result, found = metric.compute_metrics(metric.results), model.net.decisions
    assert result["steps"] == pytest.approx(float(found.steps.float().mean()))
    assert result["gmacs"] == pytest.approx(float(found.macs.mean()) / 1e9)
    shares = [result[f"left_{step}"] for step in range(1, 5)]
    assert shares == [float((found.steps == step).float().mean()) for step in range(1, 5)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stage": "joint"}, ["stage", "'joint'", "fine_tune"]),
        ({"train_cfg": {"augments": ["Mixup"]}}, ["train_cfg", "Mixup"]),
        ({"deviation": 0}, ["deviation", 0]),
        ({"classifier": {"name": "patchdrop_cifar_resnet8", "num_classes": 10}}, ["glance_focus_"]),
        ({"classifier": {**OPTIONS, "patches": 3}}, ["patches", "patch"]),
        (
            {
                "classifier": {**OPTIONS, "name": "glance_focus_mobilenet_v3_small"},
                "local_weights": "a.pth",
            },
            ["local_weights=a.pth", "glance_focus_mobilenet_v3_small", "net.local.model"],
        ),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(UserError, match=naming(*words)):
        GlanceFocus(**{"classifier": dict(OPTIONS), **options})


def test_weights_of_other_networks_and_stages_out_of_order_are_refused():
    model = classifier(stage="fine_tune")
    state = model.state_dict()
    with pytest.raises(UserError, match=naming("GlanceFocusClassifier", "architecture")):
        load_state_dict(model, {k: v for k, v in state.items() if "proposal" not in k})
    untrained = GlanceFocus(dict(OPTIONS))
    for stage, missing in (("policy", "head"), ("fine_tune", "head")):
        with pytest.raises(UserError, match=naming(repr(stage), repr(missing))):
            load_state_dict(classifier(stage=stage), untrained.state_dict())


def test_encoders_start_from_files_of_ordinary_classifiers(tmp_path):
    file = tmp_path / "plain.pth"
    plain = dynbackbones.build_backbone("cifar_resnet8")
    torch.save({**plain.state_dict(), "fc.weight": torch.zeros(10, 64)}, file)
    model = GlanceFocus(dict(OPTIONS), local_weights=str(file))
    model.init_weights()
    assert torch.equal(model.net.local.backbone.conv1.weight, plain.conv1.weight)
    assert not torch.equal(model.net.glance.backbone.conv1.weight, plain.conv1.weight)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_build(path):
    cfg = Config.fromfile(path)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert f"-{model.stage}" in path.stem and str(model.net.patch) in path.stem
    assert ("Adam" in str(cfg.optim_wrapper)) == (model.stage == "policy")
    before = {"warm_up": None, "policy": "1-warm_up", "fine_tune": "2-policy"}[model.stage]
    assert before is None or before in cfg.load_from


@torch.no_grad()
def test_the_file_takes_pixels_and_stops_where_the_classifier_does(tmp_path):
    pytest.importorskip("onnxruntime")
    from dynbackbones.export import running
    from dynbackbones.integrations.openmmlab.export import classifier_to_onnx

    before = {"mean": [120, 110, 100], "std": [60, 50, 40], "to_rgb": True}
    model = classifier(data_preprocessor=before).eval()
    pixels = 127 + 50 * scenes()
    given = model.data_preprocessor({"inputs": pixels})["inputs"]
    leave_apart(model.net, given)
    report = classifier_to_onnx(model, tmp_path / "net.onnx")
    assert report.execution == "stops when sure"
    model(given)
    steps, file = model.net.decisions.steps.tolist(), running.session(report.path)
    found = [int(running.run(file, {"images": image[None]})["steps"]) for image in pixels]
    assert found == steps and len(set(steps)) > 1
