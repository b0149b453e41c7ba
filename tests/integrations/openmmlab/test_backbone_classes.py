"""The classes that OpenMMLab's registries know, which follow from the backbones' constructors."""

import copy
import inspect
import pickle

import pytest
from mmengine.registry import MODELS

import dynbackbones
from dynbackbones.backbones.factory import RegisteredBackbone
from dynbackbones.integrations import openmmlab
from dynbackbones.integrations.openmmlab import backbones
from tests.messages import naming

COMMON = {
    "in_channels": 3, "norm_cfg": None, "norm_eval": False, "frozen_stages": -1, "with_cp": False,
    "init_cfg": None,
}  # fmt: skip
LARGE = {
    "out_indices": (0, 1, 2, 3), "output_stride": None, "strides": None, "dilations": None,
}  # fmt: skip
SMALL = {"out_indices": (2,)}
SAR = {
    "groups": 2, "guidance": "none", "guidance_weight": 0.25, "loss_rate": "sampled",
    "guidance_classes": (), "regions_per": "block",
    "track_target": False, "base_scale": 2, "alpha": 2, "beta": 1, "grid_size": None,
    "base": "strided", "target_rate": 0.5,
    "target_schedule": "ramp", "temperature": (1.0, 0.01), "loss_weight": 1.0,
    "loss_reduction": "batch", "selector_margin": 9.0, "execution": "auto", "selection": None,
    "selection_rate": 0.5,
}  # fmt: skip
BLOCKDROP = {
    "policy_training": "frozen", "execution": "auto", "selection": None, "selection_rate": 0.5,
}  # fmt: skip
RESNEXT = {"cardinality": 1, "width_per_group": 64}
# Every option that configs have used, with its default, beside the depth.
OPTIONS = {
    "StaticResNet": {**LARGE, **RESNEXT, "stride_in_1x1": False, "deep_stem": False},
    "SARResNet": {
        **LARGE, **RESNEXT, **SAR, "cell_size": (4, 4, 7), "groups": None, "layout": "paper",
        "added_norm": "BN", "stride_in_1x1": False, "deep_stem": False,
    },
    "BlockDropResNet": {
        **LARGE, **BLOCKDROP, "stride_in_1x1": False, "dilate_first": False, "policy_size": 224,
        "deep_stem": False,
    },
    "CifarResNet": {**SMALL, **RESNEXT, "width": 1},
    "SARCifarResNet": {
        **SMALL, **RESNEXT, **SAR, "cell_size": (8, 4, 4), "width": 2, "branches": "both",
    },
    "BlockDropCifarResNet": {**SMALL, **BLOCKDROP},
}  # fmt: skip
KINDS = pytest.mark.parametrize("name", OPTIONS)


@KINDS
def test_options_and_defaults_stay(name):
    first, *others = inspect.signature(getattr(openmmlab, name)).parameters.values()
    assert (first.name, first.default) == ("depth", first.empty)
    assert {p.name: p.default for p in others} == {**COMMON, **OPTIONS[name]}
    assert all(p.kind is p.KEYWORD_ONLY for p in others)


@KINDS
def test_options_of_other_names_are_refused(name):
    kind = getattr(openmmlab, name)
    with pytest.raises(TypeError, match=naming(name, "'outindices'", "'out_indices'")):
        kind(20, outindices=(0,))
    with pytest.raises(TypeError, match=naming(name, "required", "'depth'")):
        kind(out_indices=(0,))


@KINDS
def test_networks_are_copied_and_pickled(name):
    net = getattr(openmmlab, name)(20 if "Cifar" in name else 18)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert type(other) is getattr(openmmlab, name)
        assert other.out_indices == net.out_indices


@pytest.mark.parametrize(
    ("name", "depth"),
    [("SARResNet", 18), ("SARCifarResNet", 20), ("BlockDropResNet", 18)],
)
def test_a_selection_has_a_rate(name, depth):
    options = {"type": name, "depth": depth, "selection": "random", "selection_rate": 0.25}
    net = MODELS.build(options)
    assert (net.selection.kind, net.selection.rate) == ("random", 0.25)
    with pytest.raises(ValueError, match=naming(rate=2)):
        MODELS.build({**options, "selection_rate": 2})


def test_a_policy_can_be_given():
    kind = openmmlab.BlockDropResNet
    assert kind(18, selection=[1, 0] * 4).selection.kind.tolist() == [True, False] * 4


def test_a_class_can_be_derived_from():
    class Own(openmmlab.SARResNet):
        def __init__(self, depth, *, margin, **options):
            super().__init__(depth, selector_margin=margin, **options)

    assert list(inspect.signature(Own).parameters) == ["depth", "margin", "options"]
    assert Own(18, margin=2, groups=4).layer1.groups == 4


@pytest.fixture
def registry(monkeypatch):
    """mmengine's registry, which forgets afterwards what the test registers."""
    monkeypatch.setattr(MODELS, "_module_dict", dict(MODELS.module_dict))
    monkeypatch.setattr(backbones, "CLASSES", dict(backbones.CLASSES))
    return MODELS


def test_a_function_is_refused_where_it_is_built(registry):
    entry = RegisteredBackbone("made", lambda: dynbackbones.ResNet(18), "MADE")
    backbones._register(entry)
    with pytest.raises(ValueError, match=naming("made", "function")):
        registry.build({"type": "made"})


def test_a_class_of_another_network_is_not_replaced(registry):
    class SARResNet(dynbackbones.ResNet):
        pass

    with pytest.raises(ValueError, match=naming("SARResNet", "'other'")):
        backbones._register(RegisteredBackbone("other", SARResNet, None, (18,)))
    backbones._register(RegisteredBackbone("again", dynbackbones.SARResNet, None, (18,)))
    assert backbones.CLASSES["again"] is openmmlab.SARResNet
