"""Whole classifiers of mmpretrain in ONNX: from what a pipeline gives to the scores."""

import pytest
import torch
from torch import nn

from dynbackbones.errors import UserError
from tests.messages import naming

pytest.importorskip("mmpretrain")
pytest.importorskip("onnxruntime")
from mmengine.config import Config

from dynbackbones.export import running
from dynbackbones.integrations.openmmlab import blockdrop_classifier, checks
from dynbackbones.integrations.openmmlab.export import classifier_to_onnx, scores_of

assert blockdrop_classifier  # registers its classifier


def classifier(kind="ImageClassifier", backbone="SARResNet", **options):
    """One of random weights, which tells images apart."""
    model = {
        "type": kind,
        "backbone": {"type": backbone, "depth": 18, "out_indices": (3,)},
        "neck": {"type": "GlobalAveragePooling"},
        "head": {"type": "LinearClsHead", "num_classes": 5, "in_channels": 512},
        "data_preprocessor": {"mean": [120, 110, 100], "std": [60, 50, 40], "to_rgb": True},
    }
    torch.manual_seed(0)
    cfg = Config({"default_scope": "mmpretrain", "model": {**model, **options}})
    model = checks.build_model(cfg).eval()
    nn.init.normal_(model.head.fc.weight, std=0.2)
    net = model.backbone
    if hasattr(net, "policy"):
        nn.init.normal_(net.policy.fc.weight, std=0.5)
    return model


@pytest.mark.parametrize(
    ("options", "execution"),
    [
        ({}, "skips regions where few are chosen"),
        ({"backbone": "StaticResNet"}, "static"),
        (
            {"kind": "BlockDropClassifier", "backbone": "BlockDropResNet", "stage": "joint"},
            "skips blocks",
        ),
        ({"data_preprocessor": {}}, "skips regions where few are chosen"),
    ],
    ids=["sar", "static", "blockdrop", "no preprocessing"],
)
def test_the_scores_are_the_classifiers(options, execution, tmp_path):
    model = classifier(**options)
    report = classifier_to_onnx(model, tmp_path / "net.onnx")
    assert report.execution == execution
    file = running.session(report.path)
    for size in ((64, 64), (97, 50)):
        images = 255 * torch.rand(1, 3, *size)
        scores = running.run(file, {"images": images})["scores"]
        torch.testing.assert_close(scores, scores_of(model, images), rtol=0, atol=1e-4)
        assert scores.max() - scores.min() > 0.01


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"neck": {"type": "GeneralizedMeanPooling"}}, ["GeneralizedMeanPooling"]),
        ({"data_preprocessor": {"pad_size_divisor": 32}}, ["pad_size_divisor"]),
        (
            {"kind": "BlockDropClassifier", "backbone": "BlockDropResNet", "stage": "plain"},
            ["BlockDropClassifier", "'plain'"],
        ),
    ],
)
def test_classifiers_that_cannot_be(options, words, tmp_path):
    with pytest.raises(UserError, match=naming(*words, "--part backbone")):
        classifier_to_onnx(classifier(**options), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
