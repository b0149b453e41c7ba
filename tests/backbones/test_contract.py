"""What every backbone promises, whatever it is."""

import copy

import pytest
import torch

import dynbackbones
from dynbackbones.backbones import Backbone, DynamicBackbone

SIZES = [(65, 97), (40, 33)]


@pytest.fixture(scope="module", params=dynbackbones.list_backbones())
def built(request):
    return dynbackbones.build_backbone(request.param)


@pytest.fixture
def net(built):
    return copy.deepcopy(built)


def run(net):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        images = torch.randn(2, 3, 65, 97, generator=generator)
        return net.eval()(images, image_sizes=SIZES)


def test_features_match_their_description(net):
    assert isinstance(net, Backbone)
    features = run(net)
    names = [f"res{index + 2}" for index in range(len(net.parts()) - 1)]
    assert list(features) == list(net.feature_info) == names
    for feature, info in zip(features.values(), net.feature_info.values(), strict=True):
        size = (-(-65 // info.stride), -(-97 // info.stride))
        assert feature.shape == (2, info.channels, *size)
        assert net.get_submodule(info.module) is not None


def test_decisions_describe_each_image(net):
    assert net.decisions is None
    run(net)
    assert net.decisions.image_sizes == SIZES
    for macs, size in zip(net.decisions.macs.tolist(), SIZES, strict=True):
        assert 0.1 * net.macs(*size) < macs <= net.macs(*size)
    for name, figure in net.decisions.figures().items():
        assert figure.values.shape == (2,), name
        assert figure.level in ("image", "stage", "block")


def test_state_dict_and_copy_keep_the_function(net):
    last = list(net.feature_info)[-1]
    expected = run(net)[last]
    state = net.state_dict()
    clone = copy.deepcopy(net)
    assert torch.equal(run(clone)[last], expected)
    for parameter in clone.parameters():
        torch.nn.init.zeros_(parameter)
    assert not torch.equal(run(clone)[last], expected)
    clone.load_state_dict(state, strict=True)
    assert torch.equal(run(clone)[last], expected)


def test_schedules_and_losses_of_dynamic_backbones(net):
    if not isinstance(net, DynamicBackbone):
        assert not hasattr(net, "auxiliary_losses")
        return
    net.set_progress(0.5)
    assert net.progress == 0.5
    assert net.auxiliary_losses() == {}
    with net.no_auxiliary():
        net.train()(torch.randn(2, 3, 64, 64))
    assert net.auxiliary_losses() == {}
