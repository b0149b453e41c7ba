import warnings

import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.backbones.dynamic import PATIENCE
from dynbackbones.training.loop import RateWatch
from tests.messages import naming


class Model(nn.Module):
    def __init__(self, name="sar_resnet18", **options):
        super().__init__()
        self.backbone = dynbackbones.build_backbone(name, **options)

    def forward(self, images):
        return {"loss": self.backbone(images)["res5"].mean()}


def images():
    return torch.randn(2, 3, 64, 64)


def test_a_loop_that_moves_no_schedule_is_told_once():
    model = Model().train()
    dynbackbones.attach(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(PATIENCE + 3):
            model(images())
    told = [w for w in caught if "set_progress" in str(w.message)]
    assert len(told) == 1


def test_a_loop_that_moves_them_is_not():
    model = Model().train()
    dynbackbones.attach(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(PATIENCE + 1):
            dynbackbones.set_progress(model, step / PATIENCE)
            model(images())
    assert model.backbone.progress == 1.0


def test_progress_beyond_the_end_is_the_end_and_below_zero_an_error():
    model = Model()
    dynbackbones.set_progress(model, 1.5)
    assert model.backbone.progress == 1.0
    with pytest.raises(ValueError, match=naming("fraction", -0.1)):
        dynbackbones.set_progress(model, -0.1)
    dynbackbones.set_progress(nn.Linear(1, 1), 0.5)


def test_scalars_of_a_model_name_each_backbone():
    model = nn.ModuleList([Model(selector_margin=50.0).backbone, Model("resnet18").backbone])
    assert dynbackbones.decision_scalars(model) == {}
    for net in model:
        net.eval()(images())
    scalars = dynbackbones.decision_scalars(model)
    assert scalars["decisions/activation_rate"] == 1.0
    assert scalars["decisions/gmacs"] == pytest.approx(float(model[0].decisions.macs[0]) / 1e9)
    assert "decisions2/gmacs" in scalars and "decisions2/activation_rate" not in scalars
    assert dynbackbones.decision_scalars(nn.Linear(1, 1)) == {}


def test_a_rate_that_never_left_one_is_reported_once():
    model, watch = Model(selector_margin=50.0).train(), RateWatch()
    model(images())
    watch.update(model)
    (message,) = watch.finish()
    assert "activation_rate" in message and "1.000" in message and "selector_margin" in message
    assert watch.finish() == []
    with model.backbone.select("none"):
        model(images())
    watch.update(model)
    model.backbone.decisions = None
    watch.update(model)
    assert watch.finish() == []


@pytest.mark.parametrize(
    ("name", "options"),
    [("blockdrop_resnet18", {}), ("sar_resnet18", {"target_rate": 1.0}), ("resnet18", {})],
)
def test_networks_that_are_not_to_save_are_not_reported(name, options):
    model, watch = Model(name, **options).train(), RateWatch()
    model(images())
    watch.update(model)
    assert watch.finish() == []
