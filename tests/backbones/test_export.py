"""Recorded networks hold for any batch and decide for each image."""

import pytest
import torch
from torch.export import Dim, export

import dynbackbones

NAMES = ["resnet18", "sar_resnet18", "blockdrop_resnet18", "sar_cifar_resnet20"]


@pytest.fixture
def build():
    def call(name):
        torch.manual_seed(0)
        net = dynbackbones.build_backbone(name).eval()
        for threshold in getattr(net, "thresholds", list)():
            # Decisions that depend on the image.
            threshold.normal_()
        return net

    return call


def images(count, seed=0):
    return torch.randn(count, 3, 64, 80, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_an_exported_network_takes_any_batch(build, name):
    net = build(name)
    # Not strict, as newer versions of torch are by themselves: decisions are left on the network.
    shapes = ({0: Dim("batch", min=1, max=16)},)
    program = export(net, (images(2),), dynamic_shapes=shapes, strict=False)
    for count in (1, 5):
        expected = net(images(count, seed=count))
        found = program.module()(images(count, seed=count))
        for feature, value in expected.items():
            torch.testing.assert_close(found[feature], value, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_network_has_no_break_and_leaves_decisions(build, name):
    net = build(name)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    for seed in range(2):
        expected = net(images(2, seed))
        rate, macs = net.decisions.rate, net.decisions.macs
        net.decisions = None
        found = compiled(images(2, seed))
        for feature, value in expected.items():
            torch.testing.assert_close(found[feature], value, rtol=1e-4, atol=1e-4)
        assert torch.equal(net.decisions.macs, macs)
        assert rate is None or torch.equal(net.decisions.rate, rate)


@torch.no_grad()
def test_a_traced_blockdrop_network_decides_for_each_image(build):
    net = build("blockdrop_resnet18")
    inputs = images(1), torch.full((1, 3, 64, 80), -2.0)
    net.policy.fc.weight.normal_(0, 60.0)
    net.policy.fc.bias.zero_()
    net.policy.threshold.zero_()
    seen_by_policy = []
    handle = net.policy.fc.register_forward_hook(lambda _m, _i, out: seen_by_policy.append(out))
    for x in inputs:
        net(x)
    handle.remove()
    # Halfway between the two images, so that they keep opposite blocks.
    net.policy.fc.bias.copy_(-torch.cat(seen_by_policy).mean(dim=0))
    traced = torch.jit.trace(net, inputs[0], strict=False, check_trace=False)
    seen = set()
    for x in inputs:
        expected = net(x)
        seen.add(tuple(net.decisions.policy.flatten().tolist()))
        for feature, value in traced(x).items():
            torch.testing.assert_close(value, expected[feature], rtol=1e-4, atol=1e-3)
    assert len(seen) == 2
