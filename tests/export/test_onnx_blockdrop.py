"""BlockDrop networks in ONNX: each image its own policy, and what it drops is not computed."""

import json

import pytest
import torch
from torch import nn

import dynbackbones

pytest.importorskip("onnxruntime")
import onnx
import onnxruntime

from dynbackbones.export import running, to_onnx

SIZES = [(64, 64), (300, 41), (250, 330)]


def images(*size, seed=0):
    """A smooth random image, since noise looks alike to a policy."""
    coarse = torch.randn(1, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return 2 * nn.functional.interpolate(coarse, size, mode="bicubic")


@torch.no_grad()
def decided(net):
    """A network whose batch norms do something and whose policy tells images apart."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    # Features of the policy network are large; logits shall not saturate.
    nn.init.normal_(net.policy.fc.weight, std=0.1)
    seen = [net.eval().policy_probabilities(images(64, 64, seed=n)).logit() for n in range(8)]
    net.policy.fc.bias -= torch.cat(seen).mean(dim=0)
    return net


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network, and its file."""
    net = decided(dynbackbones.build_backbone("blockdrop_resnet18"))
    path = tmp_path_factory.mktemp("blockdrop") / "net.onnx"
    to_onnx(net, path)
    return net, path


@torch.no_grad()
def assert_same(net, path, inputs, thresholds=None):
    """What a file returned, which must be what the network computes by itself."""
    given = {"images": inputs} | ({} if thresholds is None else {"thresholds": thresholds})
    found = running.run(running.session(path), given)
    for name, wanted in net(inputs).items():
        bound = 1e-4 * float(wanted.abs().max())
        torch.testing.assert_close(found[name], wanted, rtol=0, atol=bound)
    assert torch.equal(found["policy"], net.decisions.policy)
    torch.testing.assert_close(
        found["probabilities"], net.decisions.probabilities, rtol=0, atol=1e-4
    )
    return found


def test_every_image_has_its_own_policy_at_any_size(exported):
    policies = set()
    for seed, size in enumerate(SIZES):
        for inputs in (images(*size, seed=seed), images(*size, seed=seed + 10)):
            policies.add(tuple(assert_same(*exported, inputs)["policy"][0].tolist()))
    assert len(policies) > 2


@torch.no_grad()
def test_the_thresholds_of_the_file_move_its_usage(exported):
    net, path = exported
    inputs = images(80, 64)
    ordered = net.policy_probabilities(inputs)[0].logit().sort().values
    middle = float(ordered[3:5].mean())
    before = net.policy.threshold.clone()
    try:
        for bound, usage in ((-torch.inf, 1.0), (middle, 0.5), (torch.inf, 0.0)):
            net.policy.threshold.fill_(bound)
            assert_same(net, path, inputs, net.policy.threshold.view(1))
            assert net.decisions.block_usage.item() == usage
    finally:
        net.policy.threshold.copy_(before)


@torch.no_grad()
def test_a_calibrated_threshold_is_the_default_of_the_file(exported, tmp_path):
    net, _ = exported
    before = net.policy.threshold.clone()
    try:
        dynbackbones.calibrate(net, images(64, 64), target_rate=0.25)
        to_onnx(net, tmp_path / "calibrated.onnx")
        assert net.policy.threshold != before
        assert_same(net, tmp_path / "calibrated.onnx", images(64, 64))
    finally:
        net.policy.threshold.copy_(before)


def convolutions(path, inputs, threshold, folder):
    """How many convolutions ONNX Runtime computes."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.log_severity_level = True, 3
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    running.run(session, {"images": inputs, "thresholds": torch.full((1,), threshold)})
    with open(session.end_profiling()) as file:
        events = json.load(file)
    kernels = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    return sum("Conv" in event["args"]["op_name"] for event in kernels)


def test_what_is_dropped_is_not_computed(exported, tmp_path):
    net, path = exported
    every = convolutions(path, images(64, 64), -torch.inf, tmp_path)
    none = convolutions(path, images(64, 64), torch.inf, tmp_path)
    assert every - none == 2 * net.num_blocks


def test_the_weights_of_a_block_lie_in_its_branch(exported):
    net, path = exported
    graph = onnx.load(path).graph
    choices = [node for node in graph.node if node.op_type == "If"]
    assert len(choices) == net.num_blocks
    sizes = [
        max(len(weight.raw_data) for weight in attribute.g.initializer)
        for node in choices
        for attribute in node.attribute
        if attribute.name == "then_branch"
    ]
    assert min(sizes) == 64 * 64 * 9 * 4
    outside = {name for weight in graph.initializer for name in [weight.name, *weight.dims]}
    assert 512 * 512 * 9 not in outside and "thresholds" in outside


@pytest.mark.parametrize(
    "options",
    [
        {"output_stride": 8, "dilate_first": True},
        {"deep_stem": True, "policy_size": None},
        {"norm": "FrozenBN", "policy_size": 48},
        {"norm": "GN"},
        {"depth": 50, "stride_in_1x1": True},
    ],
    ids=str,
)
def test_options(options, tmp_path):
    net = decided(dynbackbones.BlockDropResNet(**{"depth": 18} | options))
    to_onnx(net, tmp_path / "net.onnx")
    assert_same(net, tmp_path / "net.onnx", images(75, 110))


def test_the_networks_for_cifar(tmp_path):
    net = decided(dynbackbones.BlockDropCifarResNet(20))
    to_onnx(net, tmp_path / "net.onnx")
    for size in ((32, 32), (33, 47)):
        assert_same(net, tmp_path / "net.onnx", images(*size))
