import copy

import pytest
import torch
from torch import nn

from dynbackbones import build_backbone
from dynbackbones.adaptation import aligned, find_module, target_statistics
from dynbackbones.errors import UserError
from dynbackbones.layers import channel_statistics
from tests.messages import naming

# What takes res3 next.
NEXT = {
    "resnet18": "layer3",
    "sar_resnet18": "layer2.transition",
    "around": "layer3",
    "blockdrop_resnet18": "layer3",
    "torchvision": "layer3",
}


def build(name="resnet18", **options):
    torch.manual_seed(0)
    if name == "torchvision":
        return pytest.importorskip("torchvision").models.resnet18(weights=None)
    if name == "around":
        return build_backbone("sar_resnet18", layout="resnet", **options)
    return build_backbone(name, **options)


def images(count=2, height=64, width=64, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, generator=generator) + shift


def hooks(network):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_names():
    assert find_module(build("sar_resnet18"), "res3") == "layer2.fusion"
    assert find_module(build("blockdrop_resnet18"), "res2") == "layer1"
    assert find_module(build("torchvision"), "res5") == "layer4"
    assert find_module(build("torchvision"), "layer3.0.conv1") == "layer3.0.conv1"
    assert find_module(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), "1") == "1"


@pytest.mark.parametrize("name", NEXT)
def test_what_follows_sees_the_targets_statistics(name):
    network = build(name).train()
    targets = images(1, 96, 48, seed=1, shift=2.0)
    wanted = target_statistics(network, "res3", targets)
    raw, seen = [], []
    module = network.get_submodule(find_module(network, "res3"))
    module.register_forward_hook(lambda module, inputs, output: raw.append(output))
    follower = network.get_submodule(NEXT[name])
    follower.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with aligned(network, "res3", targets):
        network(images())
    assert len(seen) == 1
    found = channel_statistics(seen[0])
    # Channels that a ReLU left nearly constant have nothing to scale.
    alive = channel_statistics(raw[-1]).std > 0.05
    assert alive.float().mean() > 0.5
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a[alive], b.expand_as(a)[alive], rtol=1e-2, atol=1e-2)
    assert (channel_statistics(raw[-1]).mean - wanted.mean)[alive].abs().max() > 0.1


def test_each_image_has_its_own_target():
    network = build(norm="FrozenBN").train()
    targets = images(2, seed=1) * torch.tensor([0.5, 2.0])[:, None, None, None]
    with aligned(network, "res3", targets):
        both = network(images())["res3"]
    for index in range(2):
        with aligned(network, "res3", targets[index : index + 1]):
            alone = network(images()[index : index + 1])["res3"]
        torch.testing.assert_close(both[index : index + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(96, 128), (97, 129), (100, 135)])
def test_padding_of_images_does_not_count(size):
    network = build(norm="FrozenBN").train()
    targets, padded = images(2, seed=1, shift=1.0), torch.zeros(2, 3, *size)
    padded[0], padded[1, :, :64, :72] = images(1, *size), images(1, 64, 72, seed=2)
    seen = []
    network.layer3.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with aligned(network, "res3", targets, image_sizes=[size, (64, 72)], padded_size=size):
        network(padded)
    wanted = target_statistics(network, "res3", targets)
    # Stride 8.
    found = channel_statistics(seen[-1], sizes=[tuple(seen[-1].shape[-2:]), (8, 9)])
    alive = found.std > 0.05
    assert alive.float().mean() > 0.5
    torch.testing.assert_close(found.mean[alive], wanted.mean[alive], rtol=1e-2, atol=1e-2)
    whole = channel_statistics(seen[-1])
    assert (whole.mean - wanted.mean)[1].abs().max() > 0.1


def test_padding_where_sizes_are_rounded_down():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.MaxPool2d(2)).train()
    targets, padded = images(1, 32, 32, seed=1, shift=1.0), torch.zeros(1, 3, 71, 71)
    padded[..., :40, :71] = images(1, 40, 71)
    with aligned(network, "2", targets, image_sizes=[(40, 71)], padded_size=(71, 71)):
        found = channel_statistics(network(padded), sizes=[(10, 17)])
    for a, b in zip(found, target_statistics(network, "2", targets), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_targets_equal_to_the_images_change_nothing():
    # With batch norm's fixed statistics: else the images are normalised by their batch.
    network = build(norm="FrozenBN").train()
    plain = network(images())
    with aligned(network, "res3", images()):
        found = network(images())
    for name in plain:
        torch.testing.assert_close(found[name], plain[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NEXT)
def test_off_in_evaluation_and_outside(name):
    network = build(name).eval()
    plain, twin = network(images()), copy.deepcopy(network)
    with aligned(network, "res3", images(1, seed=1)):
        inside = network(images())
    with aligned(network.train(), "res3", images(1, seed=1)):
        switched = network.eval()(images())
    after = network(images())
    for found in (inside, switched, after):
        torch.testing.assert_close(found, plain, rtol=0, atol=0)
    assert hooks(network) == hooks(twin)
    with aligned(network, "res3", "not even looked at"):
        pass


def test_nothing_remains_after_an_exception():
    network = build().train()
    with pytest.raises(KeyError), aligned(network, "res3", images(1)):
        raise KeyError
    with (
        pytest.raises(ValueError, match=naming(images=(0, 3, 64, 64))),
        aligned(network, "res3", images()[:0]),
    ):
        pass
    assert hooks(network) == 0
    assert network.training


@pytest.mark.parametrize("name", NEXT)
def test_the_targets_pass_leaves_no_trace(name):
    network = build(name).train()
    if name != "torchvision":
        network.freeze(2)
        network(images())
        losses = dict(network._traces.mine.losses)
        network.set_image_sizes([(64, 50), (60, 64)])
        decisions = network.decisions
    # As OpenMMLab's `norm_eval`, say: only the modules themselves know.
    network.bn1.eval()
    network.layer2.eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    state = torch.get_rng_state()
    statistics = target_statistics(network, "res3", images(3, 32, 96, seed=1))
    assert not statistics.mean.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    if name != "torchvision":
        assert network.decisions is decisions
        assert getattr(network, "auxiliary_losses", dict)() == losses
        network(images())
        assert network.decisions.image_sizes == [(64, 50), (60, 64)]


def test_the_targets_are_seen_as_in_evaluation():
    network = build("sar_resnet18").train()
    for seed in range(3):
        network(images(seed=seed))
        network.auxiliary_losses()
    targets = images(2, seed=9)
    found = target_statistics(network, "res3", targets)
    features = network.eval()(targets)["res3"]
    for a, b in zip(found, channel_statistics(features), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", NEXT)
def test_gradients_reach_what_lies_before_the_alignment(name, autocast):
    network, targets = build(name).train(), images(1, seed=1).requires_grad_()
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        aligned(network, "res3", targets),
    ):
        output = network(images())
        loss = (output["res4"] if isinstance(output, dict) else output).float().square().mean()
    loss.backward()
    assert targets.grad is None
    assert network.conv1.weight.grad.abs().sum() > 0
    weights = [p for key, p in network.named_parameters() if key.startswith("layer1.")]
    assert weights and all(p.grad is not None and p.grad.isfinite().all() for p in weights)


def test_auxiliary_losses_are_the_images_own():
    network = build("sar_resnet18", target_rate=0.3).train()
    with aligned(network, "res3", images(1, seed=1)):
        network(images())
    assert network.auxiliary_losses()["loss_activation_rate"].requires_grad
    assert len(network.decisions.macs) == 2


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.pair, self.flat, self.unused = nn.Identity(), nn.Flatten(), nn.Identity()

    def forward(self, x):
        return self.flat(self.pair((x, x))[0])


@pytest.mark.parametrize(
    ("network", "name", "error", "words"),
    [
        (build("sar_resnet18"), "res6", UserError, ("'res6'", "SARResNet", "res2, res3, res4")),
        (Odd(), "res3", UserError, ("'res3'", "Odd", "pair, flat, unused")),
        (Odd(), "", UserError, ("''", "Odd", "pair, flat, unused")),
        (Odd(), "unused", UserError, ("'unused'", "Odd", "forward pass")),
        (Odd(), "pair", ValueError, ("'pair'", "(N, C, H, W)", "tuple")),
        (Odd(), "flat", ValueError, ("'flat'", "(N, C, H, W)", (2, 12288))),
    ],
)
def test_wrong_modules(network, name, error, words):
    with pytest.raises(error, match=naming(*words)), aligned(network.train(), name, images()):
        pass
    assert hooks(network) == 0


def test_targets_that_do_not_go_with_the_images():
    network = build().train()
    with (
        pytest.raises(ValueError, match=naming("images", 3, 2)),
        aligned(network, "res3", images(3)),
    ):
        network(images())
    assert hooks(network) == 0
