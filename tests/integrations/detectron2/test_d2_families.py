"""Other networks than ResNets in detectron2."""

import math

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import instantiate  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402

from dynbackbones.backbones.base import find_backbones  # noqa: E402
from dynbackbones.integrations.detectron2 import backbone_fpn  # noqa: E402
from dynbackbones.integrations.detectron2.engine import Trainer  # noqa: E402

pytestmark = pytest.mark.detectron2

NAME = "MODEL.BACKBONE.NAME"
FAMILIES = {
    "sar_resnext50_32x4d": (
        *("MODEL.SAR.DEPTH", 50, "MODEL.SAR.CARDINALITY", 32, "MODEL.SAR.WIDTH_PER_GROUP", 4),
    ),
    "mobilenet_v2": (NAME, "build_retinanet_mobilenet_v2_fpn_backbone"),
    "sar_mobilenet_v2": (
        *(NAME, "build_retinanet_sar_mobilenet_v2_fpn_backbone"),
        *("MODEL.SAR_MOBILENET.SELECTOR_MARGIN", 2.0),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_lazy_configs_build_the_same_network(config, name):
    registered = build_model(config(*FAMILIES[name])).backbone
    lazy = instantiate(backbone_fpn(name, out_channels=16))
    assert {k: v.shape for k, v in lazy.state_dict().items()} == {
        k: v.shape for k, v in registered.state_dict().items()
    }


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if "resnext" in n else []) for n in FAMILIES],
)
def test_a_detector_trains(config, name):
    trainer = Trainer(config(*FAMILIES[name]))
    (net,) = find_backbones(trainer.model)
    before = {key: value.clone() for key, value in net.named_parameters()}
    trainer.train()
    after = dict(net.named_parameters())
    assert all(torch.isfinite(value).all() for value in after.values())
    # The features' own, whatever the selectors do in so few iterations.
    moved = [key for key, value in before.items() if not torch.equal(value, after[key])]
    assert len(moved) > 0.9 * len(before)
    assert math.isfinite(trainer.storage.history("total_loss").latest())
    if name.startswith("sar"):
        assert "loss_activation_rate" in trainer.storage.histories()
