import pytest
import torch

import dynbackbones
from dynbackbones import inference
from dynbackbones.analysis.costs import DecisionMeter
from dynbackbones.errors import UserError
from tests.messages import naming


def spread_out(net):
    """Selectors that tell places apart, as trained ones do."""
    torch.manual_seed(0)
    for stage in net.stages().values():
        for selector in stage.selectors:
            torch.nn.init.normal_(selector.fc.weight, std=3.0)
    return net


@pytest.mark.parametrize("target", [0.2, 0.5, 0.8])
def test_meets_the_target_and_keeps_it_in_the_checkpoint(target):
    net = spread_out(dynbackbones.build_backbone("sar_resnet18")).train()
    images = torch.randn(2, 3, 96, 96)
    reached = dynbackbones.calibrate(net, images, target_rate=target, tolerance=0.03)
    assert reached == pytest.approx(target, abs=0.05)
    assert net.training
    other = dynbackbones.build_backbone("sar_resnet18").eval()
    other.load_state_dict(net.state_dict())
    other(images)
    assert other.decisions.activation_rate.mean().item() == pytest.approx(reached, abs=1e-6)


def test_batches_count_by_their_images():
    net = spread_out(dynbackbones.build_backbone("sar_resnet18"))
    images = torch.randn(3, 3, 64, 64)
    whole = dynbackbones.calibrate(net, images, target_rate=0.4, max_steps=6)
    parts = dynbackbones.calibrate(net, [images[:1], images[1:]], target_rate=0.4, max_steps=6)
    assert parts == pytest.approx(whole, abs=0.01)


@pytest.mark.parametrize(
    ("images", "rate", "words"),
    [(torch.randn(1, 3, 64, 64), 1.2, ("target_rate", 1.2)), ([], 0.5, ("images", "empty"))],
)
def test_wrong_arguments(images, rate, words):
    with pytest.raises(ValueError, match=naming(*words)):
        dynbackbones.calibrate(
            dynbackbones.build_backbone("sar_resnet18"), images, target_rate=rate
        )


def test_an_override_is_refused_and_a_failure_changes_nothing():
    net = dynbackbones.build_backbone("sar_resnet18")
    images = torch.randn(1, 3, 64, 64)
    with net.select("all"), pytest.raises(ValueError, match=naming("calibrate", "select(...)")):
        dynbackbones.calibrate(net, images, target_rate=0.3)
    with pytest.raises(ValueError, match=naming("images", (1, 2, 64, 64))):
        dynbackbones.calibrate(net, [images, images[:, :2]], target_rate=0.3)
    with pytest.raises(ValueError, match=naming(max_steps=0)):
        dynbackbones.calibrate(net, images, target_rate=0.3, max_steps=0)
    assert all(s.threshold == 0 for stage in net.stages().values() for s in stage.selectors)


def test_block_usage_is_met_too():
    torch.manual_seed(0)
    net = dynbackbones.build_backbone("blockdrop_cifar_resnet20")
    torch.nn.init.normal_(net.policy.fc.weight, std=3.0)
    images = torch.randn(16, 3, 32, 32)
    reached = dynbackbones.calibrate(net, images, target_rate=0.4, tolerance=0.02)
    assert reached == pytest.approx(0.4, abs=0.04)
    other = dynbackbones.build_backbone("blockdrop_cifar_resnet20").eval()
    other.load_state_dict(net.state_dict())
    other(images)
    assert other.decisions.block_usage.mean().item() == pytest.approx(reached, abs=1e-6)


@pytest.mark.parametrize(("target", "nearest"), [(0.2, 0.0), (0.9, 1.0)])
def test_decisions_that_change_all_at_once(target, nearest):
    net = dynbackbones.build_backbone("blockdrop_cifar_resnet20")
    torch.nn.init.zeros_(net.policy.fc.weight)
    torch.nn.init.zeros_(net.policy.fc.bias)
    images = torch.randn(2, 3, 32, 32)
    with pytest.warns(UserWarning, match=naming(f"{nearest:.3f}", target)) as caught:
        assert dynbackbones.calibrate(net, images, target_rate=target) == nearest
    assert caught[0].filename == __file__


def test_networks_without_decisions_are_refused():
    with pytest.raises(ValueError, match=naming("calibrate", "ResNet")):
        dynbackbones.calibrate(
            dynbackbones.build_backbone("resnet18"), torch.randn(1, 3, 64, 64), target_rate=0.5
        )


def test_what_a_backbone_sees_is_without_padding():
    net = dynbackbones.build_backbone("sar_resnet18", selector_margin=0).eval()
    images = torch.rand(2, 3, 64, 96)
    runs = [lambda: net(images, image_sizes=[(64, 96), (40, 50)]), lambda: net(images[:1])]
    inputs = inference.backbone_inputs(net, runs)
    assert [tuple(image.shape[2:]) for image in inputs] == [(64, 96), (40, 50), (64, 96)]
    assert torch.equal(inputs[1][0], images[1, :, :40, :50])
    net(images)
    assert len(inputs) == 3


@pytest.mark.parametrize("name", ["sar_resnet18", "blockdrop_resnet18"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_decisions_that_come_of_no_numbers_are_refused(name, value):
    net = dynbackbones.build_backbone(name).eval()
    images = torch.rand(2, 3, 64, 64)
    images[1] = value
    with pytest.raises(UserError, match=naming("1 of 2 images", "finite")):
        dynbackbones.calibrate(net, images, target_rate=0.5)
    # What is no number looks like the most expensive network, not the cheapest.
    net(torch.full((1, 3, 64, 64), torch.nan))
    assert net.decisions.rate == 1
    with pytest.raises(UserError, match=naming("1 of 1 images", "finite")):
        DecisionMeter().update(net.decisions)


def test_what_has_no_effect_or_another_kind_is_refused():
    net = dynbackbones.build_backbone("sar_resnet18")
    images = torch.rand(2, 3, 64, 64)
    with pytest.raises(ValueError, match=naming("tolerance", -1)):
        dynbackbones.calibrate(net, images, target_rate=0.5, tolerance=-1)
    with pytest.raises(ValueError, match=naming("tensors", "tuple", "labels")):
        dynbackbones.calibrate(net, [(images, torch.zeros(2))], target_rate=0.5)
    with pytest.raises(ValueError, match=naming("SARResNet", "target_rate or target_ms")):
        dynbackbones.calibrate(net, images, target_macs=1e9)
    patches = dynbackbones.build_classifier("patchdrop_cifar_resnet8", 10)
    with pytest.raises(ValueError, match=naming("PatchDrop", "target_ms", "target_rate")):
        dynbackbones.calibrate(patches, images, target_ms=5)
    stream = dynbackbones.video.Stream(lambda image: 0, propagation="copy")
    with pytest.raises(ValueError, match=naming("tolerance", "Stream")):
        dynbackbones.calibrate(stream, [], target_rate=0.5, tolerance=0.1)
