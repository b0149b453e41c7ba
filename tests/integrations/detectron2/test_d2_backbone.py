"""Registry entries, lazy configs and the adapter class."""

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import get_cfg, instantiate  # noqa: E402
from detectron2.layers import ShapeSpec  # noqa: E402
from detectron2.modeling import BACKBONE_REGISTRY, build_backbone  # noqa: E402

import dynbackbones  # noqa: E402
from dynbackbones.backbones.factory import RegisteredBackbone  # noqa: E402
from dynbackbones.errors import UserError  # noqa: E402
from dynbackbones.integrations.detectron2 import (  # noqa: E402
    BackboneAdapter,
    add_dynbackbones_config,
    backbone,
    sar_resnet_fpn,
)
from tests.messages import naming

pytestmark = pytest.mark.detectron2


def make_cfg(name="build_sar_resnet_backbone", *opts):
    cfg = get_cfg()
    add_dynbackbones_config(cfg)
    features = ["res3", "res4", "res5"]
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.SAR.DEPTH = 18
    cfg.MODEL.RESNETS.OUT_FEATURES = features
    cfg.MODEL.FPN.IN_FEATURES = features
    cfg.merge_from_list(list(opts))
    return cfg


@pytest.mark.parametrize(
    "name, expected",
    [
        ("build_sar_resnet_backbone", {"res3": (128, 8), "res4": (256, 16), "res5": (512, 32)}),
        ("build_sar_resnet_fpn_backbone", {f"p{i}": (256, 2**i) for i in (3, 4, 5, 6)}),
        ("build_retinanet_sar_resnet_fpn_backbone", {f"p{i}": (256, 2**i) for i in range(3, 8)}),
    ],
)
def test_registered_builders_make_what_they_declare(name, expected):
    backbone = build_backbone(make_cfg(name)).eval()
    shapes = backbone.output_shape()
    assert {k: (s.channels, s.stride) for k, s in shapes.items()} == expected
    features = backbone(torch.rand(2, 3, 64, 128))
    assert list(features) == list(shapes)
    for key, value in features.items():
        channels, stride = expected[key]
        assert value.shape == (2, channels, 64 // stride or 1, 128 // stride)


def test_names_are_in_the_registry():
    for name in ("sar_resnet_backbone", "sar_resnet_fpn_backbone"):
        assert f"build_{name}" in BACKBONE_REGISTRY
    assert "build_retinanet_sar_resnet_fpn_backbone" in BACKBONE_REGISTRY


def test_a_builder_of_somebody_else_is_not_replaced():
    entry = RegisteredBackbone("resnet", dynbackbones.ResNet, "PLAIN", (18,))
    with pytest.raises(ValueError, match=naming("build_resnet_backbone", "'resnet'")):
        backbone._register(entry)
    assert "build_resnet_fpn_backbone" not in backbone.BUILDERS


def test_adapter_returns_the_features_of_the_network():
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    adapter = BackboneAdapter(net, ["res2", "res5"])
    images = torch.rand(1, 3, 65, 70)
    features, expected = adapter(images), net(images)
    assert list(features) == ["res2", "res5"]
    for name in features:
        assert torch.equal(features[name], expected[name])
    assert adapter.size_divisibility == 0


def test_every_option_reaches_the_network():
    net = build_backbone(
        make_cfg(
            "build_sar_resnet_backbone",
            *("MODEL.SAR.GROUPS", "4", "MODEL.SAR.BASE_SCALE", "4", "MODEL.SAR.ALPHA", "1"),
            *("MODEL.SAR.TARGET_RATE", "0.3", "MODEL.SAR.TARGET_SCHEDULE", "constant"),
            *("MODEL.SAR.TEMPERATURE", "[0.1, 0.02]", "MODEL.SAR.LOSS_WEIGHT", "0.5"),
            *("MODEL.SAR.LOSS_REDUCTION", "sample", "MODEL.SAR.EXECUTION", "masked"),
            *("MODEL.SAR.SELECTOR_MARGIN", "3.0", "MODEL.SAR.GRID_SIZE", "5"),
        )
    ).net
    reference = dynbackbones.build_backbone("sar_resnet18", groups=4, base_scale=4, alpha=1)
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in reference.state_dict().items()
    }
    assert (net.target_rate, net.target_schedule) == (0.3, "constant")
    assert net.temperature == (0.1, 0.02)
    assert (net.loss_weight, net.loss_reduction) == (0.5, "sample")
    assert net.execution == "masked"
    bias = net.layer1.selectors[0].fc.bias
    assert (bias[1::2] - bias[::2]).tolist() == [3.0] * 4
    net.eval()(torch.rand(1, 3, 224, 224))
    assert net.decisions.masks["res2"].shape[-2:] == (5, 5)


def test_freeze_at_freezes_as_many_parts_as_in_detectron2():
    cfg = make_cfg("build_sar_resnet_backbone", "MODEL.WEIGHTS", "some.pth")
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    net = build_backbone(cfg).net.train()
    assert not net.conv1.weight.requires_grad
    assert not any(p.requires_grad for p in net.layer1.parameters())
    assert all(p.requires_grad for p in net.layer2.parameters())
    assert not net.layer1.training and net.layer2.training


@pytest.mark.parametrize("depth, top_block", [(18, "p6p7"), (50, "p6p7"), (18, "maxpool")])
def test_lazy_config_builds_the_same_network_as_the_registry(depth, top_block):
    names = {
        "p6p7": "build_retinanet_sar_resnet_fpn_backbone",
        "maxpool": "build_sar_resnet_fpn_backbone",
    }
    registered = build_backbone(make_cfg(names[top_block], "MODEL.SAR.DEPTH", str(depth)))
    node = sar_resnet_fpn(depth, top_block=top_block, cell_size=(4, 4, 7), temperature=(1.0, 0.1))
    lazy = instantiate(node)
    state, expected = lazy.state_dict(), registered.state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in expected.items()}
    lazy.load_state_dict(expected)
    images = torch.rand(1, 3, 64, 64)
    for a, b in zip(lazy.eval()(images).values(), registered.eval()(images).values(), strict=True):
        assert torch.equal(a, b)


def test_lazy_config_takes_overrides():
    node = sar_resnet_fpn(18, groups=2)
    node.bottom_up.net.groups = 4
    node.bottom_up.net.target_rate = 0.3
    net = instantiate(node).bottom_up.net
    assert net.layer1.selectors[0].groups == 4
    assert net.target_rate == 0.3


def test_lazy_config_refuses_unknown_options():
    with pytest.raises(ValueError, match=naming("SARResNet", "group", "'groups'")):
        sar_resnet_fpn(18, group=2)


@pytest.mark.parametrize(
    "opts, words",
    [
        (("MODEL.SAR.GROUPS", "3"), ("MODEL.SAR", "groups=3")),
        (("MODEL.SAR.DEPTH", "19"), ("MODEL.SAR", "depth", 19)),
        (("MODEL.SAR.EXECUTION", "fast"), ("MODEL.SAR", "execution", "'fast'")),
        (("MODEL.BACKBONE.FREEZE_AT", "2"), ("MODEL.BACKBONE.FREEZE_AT", 2, "MODEL.WEIGHTS", 0)),
        (("MODEL.SAR.NORM", "FrozenBN"), ("MODEL.SAR.NORM", "FrozenBN", "MODEL.SAR.NORM BN")),
        (("MODEL.RESNETS.OUT_FEATURES", "['res6']"), ("MODEL.RESNETS.OUT_FEATURES", ["res6"])),
        (("MODEL.FPN.IN_FEATURES", "['res2']"), ("MODEL.FPN", "res2")),
        (("MODEL.SAR.OUTPUT_STRIDE", "16"), ("MODEL.FPN", "strides", [8, 16, 16])),
    ],
)
def test_wrong_options_are_named(opts, words):
    cfg = make_cfg("build_retinanet_sar_resnet_fpn_backbone", *opts)
    with pytest.raises(UserError, match=naming(*words)):
        build_backbone(cfg, ShapeSpec(channels=3))


def test_frozen_norm_is_fine_with_weights():
    cfg = make_cfg("build_sar_resnet_backbone", "MODEL.SAR.NORM", "FrozenBN")
    cfg.MODEL.WEIGHTS = "some.pth"
    net = build_backbone(cfg).net
    assert not list(net.bn1.parameters())
