import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.registry import METRICS
from mmengine.runner import load_state_dict
from mmpretrain.structures import DataSample

import dynbackbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.patchdrop_classifier import PatchDropClassifier
from tests.classifiers.made import built, images
from tests.messages import naming


def classifier(name="patchdrop_cifar_resnet8", **options):
    """One whose parts have all been trained."""
    model = PatchDropClassifier({"name": name, "num_classes": 10}, **options)
    model.net.load_state_dict(built(name).state_dict())
    return model


def samples(count=4):
    return [DataSample().set_gt_label(index) for index in range(count)]


@pytest.mark.parametrize("stage", ["high", "low", "policy", "joint", "two_stream"])
@pytest.mark.parametrize("name", ["patchdrop_cifar_resnet8", "bagnet_cifar_resnet8"])
def test_stages_train_and_predict_as_the_classifier_does(stage, name):
    model = classifier(name, stage=stage).train()
    losses = model(images(), samples(), mode="loss")
    assert ("loss_policy" in losses) == (stage in ("policy", "joint", "two_stream"))
    sum(value for key, value in losses.items() if "loss" in key).backward()
    model.eval()
    scores = model(images())
    predictions = model(images(), samples(), mode="predict")
    for index, sample in enumerate(predictions):
        assert torch.allclose(sample.pred_score, scores[index].exp())
        assert torch.equal(sample.patch_policy, model.net.decisions.policy[index])
        assert sample.macs == float(model.net.decisions.macs[index])


def test_fixed_patches_take_the_place_of_all():
    model = classifier(selection="horizontal", selection_rate=0.25).eval()
    (first, *_) = model(images(), samples(), mode="predict")
    assert first.patch_policy.nonzero().flatten().tolist() == [5, 6, 9, 10]
    drawn = classifier(selection="random", selection_rate=0.5).train()
    policies = []
    for _ in range(2):
        drawn(images(), samples(), mode="loss")
        policies.append(drawn.net.decisions.policy)
    assert not torch.equal(*policies)


def test_the_metric_tells_patches_pixels_and_macs():
    model = classifier(stage="two_stream").eval()
    metric = METRICS.build({"type": "PatchUsage"})
    metric.process(None, [s.to_dict() for s in model(images(), samples(), mode="predict")])
    result, decisions = metric.compute_metrics(metric.results), model.net.decisions
    assert result["patches"] == pytest.approx(float(decisions.policy.sum(dim=1).float().mean()))
    assert result["pixel_rate"] == pytest.approx(float(decisions.pixel_rate.mean()))
    assert result["gmacs"] == pytest.approx(float(decisions.macs.mean()) / 1e9)
    assert result["distinct_policies"] == len(decisions.policy.unique(dim=0))


def test_alpha_follows_the_training():
    model = classifier(stage="policy", alpha=(0.7, 0.9))
    dynbackbones.set_progress(model, 0.5)
    assert model.learning.at(model.net.progress).alpha == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stage": "plain"}, ["stage", "'plain'", "two_stream"]),
        ({"train_cfg": {"augments": ["Mixup"]}}, ["train_cfg", "Mixup"]),
        ({"sigma": -0.5}, ["sigma", -0.5, "minus"]),
        ({"alpha": 0.4}, ["alpha", 0.4]),
        ({"selection": "middle"}, ["selection", "'middle'"]),
        ({"selection": "random", "stage": "joint"}, ["selection", "'joint'"]),
        ({"classifier": {"name": "patchdrop_vit", "num_classes": 2}}, ["patchdrop_vit"]),
        ({"classifier": {"name": "patchdrop_resnet18", "num_classes": 2, "size": 3}}, ["size"]),
    ],
)
def test_wrong_options_are_refused(options, words):
    arguments = {"classifier": {"name": "patchdrop_cifar_resnet8", "num_classes": 10}, **options}
    with pytest.raises(UserError, match=naming(*words)):
        PatchDropClassifier(**arguments)


def test_weights_of_other_networks_and_stages_out_of_order_are_refused():
    model = classifier(stage="joint")
    state = model.state_dict()
    with pytest.raises(UserError, match=naming("PatchDrop", "architecture")):
        load_state_dict(model, {k: v for k, v in state.items() if "policy" not in k})
    untrained = PatchDropClassifier({"name": "patchdrop_cifar_resnet8", "num_classes": 10})
    for stage, missing in (("policy", "high"), ("joint", "high")):
        other = classifier(stage=stage)
        with pytest.raises(UserError, match=naming(repr(stage), repr(missing))):
            load_state_dict(other, untrained.state_dict())
