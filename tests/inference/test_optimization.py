import copy

import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.inference import fold_norms
from tests.messages import naming

NAMES = ["resnet18", "resnet50", "sar_resnet18", "sar_resnet50", "blockdrop_resnet18"]


def trained_like(net):
    """Norm layers with the statistics of a trained network."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.0, generator=generator)
                module.bias.normal_(std=0.1, generator=generator)
                module.running_mean.normal_(std=0.1, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    return net.eval()


def build(name, **options):
    torch.manual_seed(0)
    return trained_like(dynbackbones.build_backbone(name, **options))


def assert_same(features, expected):
    assert features.keys() == expected.keys()
    for name, feature in features.items():
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(feature, expected[name], rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_stay_the_same(name, pack):
    net = build(name)
    fast = dynbackbones.optimize_for_inference(net, pack=pack)
    for size in ((64, 64), (70, 45), (64, 64), (33, 97)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            expected = net(images)
            assert_same(fast(images), expected)
        assert torch.equal(fast.decisions.macs, net.decisions.macs)


@pytest.mark.parametrize("execution", ["masked", "sparse"])
@pytest.mark.parametrize("options", [{}, {"output_stride": 16, "base_scale": 4, "alpha": 1}])
def test_regions_stay_exact(execution, options):
    net = build("sar_resnet50", **options)
    fast = dynbackbones.optimize_for_inference(net)
    fast.execution = execution
    images = torch.randn(2, 3, 96, 80)
    sizes = [(96, 80), (60, 71)]
    with torch.no_grad(), net.select("random", rate=0.4), fast.select("random", rate=0.4):
        assert_same(fast(images, sizes), net(images, sizes))


@pytest.mark.parametrize("images", [1, 3])
def test_dropped_blocks_stay_dropped(images):
    net = build("blockdrop_resnet50", policy_size=32)
    fast = dynbackbones.optimize_for_inference(net)
    generator = torch.Generator().manual_seed(0)
    policy = torch.rand(images, net.num_blocks, generator=generator) < 0.5
    policy[:, :2] = True
    inputs = torch.randn(images, 3, 64, 64, generator=generator)
    before = inputs.clone()
    with torch.no_grad(), net.select(policy), fast.select(policy):
        assert_same(fast(inputs), net(inputs))
        calls = []
        for module in fast.layer3.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda *_: calls.append(1))
        with fast.select(torch.zeros_like(policy)):
            fast(inputs)
    assert torch.equal(inputs, before)
    # The projection shortcut alone.
    assert len(calls) == 1


def test_the_model_stays_as_it_is():
    net = build("sar_resnet18").train()
    state = copy.deepcopy(net.state_dict())
    dynbackbones.optimize_for_inference(net)
    assert net.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def test_the_backbone_inside_a_detector_is_found():
    detector = nn.Module()
    detector.backbone, detector.head = build("resnet18"), nn.BatchNorm2d(4)
    fast = dynbackbones.optimize_for_inference(detector)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.backbone.modules())
    assert isinstance(fast.head, nn.BatchNorm2d)


def test_frozen_norms_fold_and_group_norms_stay():
    images = torch.randn(1, 3, 64, 64)
    for norm, folded in (("FrozenBN", True), (lambda c: nn.GroupNorm(2, c), False)):
        net = build("resnet18", norm=norm)
        fast = dynbackbones.optimize_for_inference(net)
        assert isinstance(fast.bn1, nn.Identity) == folded
        with torch.no_grad():
            assert_same(fast(images), net(images))


def test_models_without_a_backbone_are_refused():
    with pytest.raises(ValueError, match=naming("optimize_for_inference", "Linear")):
        dynbackbones.optimize_for_inference(nn.Linear(2, 2))


def test_norms_in_sequences_fold():
    net = trained_like(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)))
    folded = copy.deepcopy(net)
    fold_norms(folded)
    images = torch.randn(1, 3, 5, 5)
    assert isinstance(folded[1], nn.Identity) and isinstance(folded[2], nn.Conv2d)
    torch.testing.assert_close(folded(images), net(images))
