import copy

import pytest
import torch
import torchvision
from fvcore.nn import FlopCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dynbackbones
from dynbackbones.policy import bound_probabilities, policy_gradient_loss
from tests.messages import naming

NETS = ["blockdrop_resnet18", "blockdrop_resnet50", "blockdrop_cifar_resnet20"]


def build(name="blockdrop_resnet18", **options):
    """A network as training leaves it: no statistics are neutral, decisions differ."""
    torch.manual_seed(0)
    net = dynbackbones.build_backbone(name, **options)
    for child in net.modules():
        if isinstance(child, nn.BatchNorm2d):
            nn.init.uniform_(child.weight, 0.5, 1.0)
            nn.init.normal_(child.bias, std=0.2)
            nn.init.normal_(child.running_mean, std=0.2)
            nn.init.uniform_(child.running_var, 0.5, 2.0)
    nn.init.normal_(net.policy.fc.weight, std=2.0)
    net.policy.reset_bias(0.0)
    return net.eval()


def assert_same(features, expected, tolerance=1e-4):
    for name, feature in features.items():
        scale = expected[name].abs().max().item() + 1e-6
        torch.testing.assert_close(
            feature, expected[name], rtol=tolerance, atol=tolerance * scale, msg=name
        )


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(NETS),
    images=st.integers(1, 4),
    height=st.integers(17, 100),
    width=st.integers(17, 100),
    output_stride=st.sampled_from([32, 16, 8]),
    seed=st.integers(0, 1000),
    share=st.floats(0, 1),
)
def test_sparse_equals_masked_and_one_by_one(
    name, images, height, width, output_stride, seed, share
):
    net = build(name, **({} if "cifar" in name else {"output_stride": output_stride}))
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(images, 3, height, width, generator=generator)
    policy = torch.rand(images, net.num_blocks, generator=generator) < share
    with torch.no_grad(), net.select(policy):
        net.execution = "masked"
        masked, decisions = net(batch), net.decisions
        net.execution = "sparse"
        sparse = net(batch)
    assert_same(sparse, masked)
    assert torch.equal(net.decisions.macs, decisions.macs)
    assert torch.equal(net.decisions.policy, policy)
    for index in range(images):
        with torch.no_grad():
            alone = net.run_blocks(batch[index : index + 1], policy[index : index + 1])
        assert_same({k: f[index : index + 1] for k, f in sparse.items()}, alone)


@pytest.mark.parametrize("name", NETS)
def test_learned_decisions_do_not_depend_on_the_batch_or_its_padding(name):
    net = build(name)
    batch, sizes = torch.randn(3, 3, 96, 80), [(96, 80), (64, 80), (96, 80)]
    with torch.no_grad():
        net(batch, image_sizes=sizes)
        together = net.decisions
        for index, (h, w) in enumerate(sizes):
            net(batch[index : index + 1, :, :h, :w])
            torch.testing.assert_close(
                net.decisions.probabilities[0], together.probabilities[index], atol=1e-5, rtol=1e-4
            )
            assert torch.equal(net.decisions.policy[0], together.policy[index])
            assert net.decisions.macs[0] == together.macs[index]
        assert together.block_usage.min() > 0 and together.block_usage.max() < 1
        batch[1, :, 64:] = 1e3
        net(batch, image_sizes=sizes)
        torch.testing.assert_close(net.decisions.probabilities, together.probabilities)


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_keeping_everything_is_the_plain_resnet(output_stride, stride_in_1x1):
    options = {"output_stride": output_stride, "stride_in_1x1": stride_in_1x1}
    plain = dynbackbones.build_backbone("resnet50", **options).eval()
    net = build("blockdrop_resnet50", selection="all", **options)
    assert_loads(net, plain.state_dict())
    images = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        expected = plain(images)
        for name, feature in net(images).items():
            assert torch.equal(feature, expected[name])
    assert {n: i[:2] for n, i in net.feature_info.items()} == {
        n: i[:2] for n, i in plain.feature_info.items()
    }


def assert_loads(net, state):
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert all(key.startswith("policy.") for key in missing) and not unexpected


@pytest.mark.parametrize(
    ("depth", "blocks", "operations"),
    [
        # Table 2.3; gamma 5, then 2, 5 and 10.
        (32, 6.9, 86.6e6),
        (110, 10.3, 118e6),
        (110, 13.8, 151e6),
        (110, 16.9, 181e6),
    ],
)
def test_operations_of_the_papers_table_for_cifar(depth, blocks, operations):
    plain = dynbackbones.build_backbone(f"cifar_resnet{depth}")
    net = dynbackbones.build_backbone(f"blockdrop_cifar_resnet{depth}")
    assert operations_with(net, plain, blocks, (32, 32)) == pytest.approx(operations, rel=0.01)


@pytest.mark.parametrize(
    ("blocks", "operations", "decides"),
    [
        # Table 2.4: ResNet-72, -75, -84 and -101, then BlockDrop with gamma 2, 5 and 10.
        (24, 11.7e9, False),
        (25, 12.1e9, False),
        (28, 13.4e9, False),
        (33, 15.6e9, False),
        (18.8, 9.85e9, True),
        (24.8, 12.5e9, True),
        (29.7, 14.7e9, True),
    ],
)
def test_operations_of_the_papers_table_for_imagenet(blocks, operations, decides):
    plain = dynbackbones.build_backbone("resnet101")
    net = dynbackbones.build_backbone("blockdrop_resnet101") if decides else None
    found = operations_with(net, plain, blocks, (224, 224))
    assert found == pytest.approx(operations, rel=0.008)


def operations_with(net, plain, blocks, size):
    """Of a ResNet that drops blocks that keep their size, two for each multiply-accumulate."""
    block, total = plain.layer1[-1], sum(len(plain.get_submodule(i.module)) for i in
                                         plain.feature_info.values())  # fmt: skip
    cell = [-(-length // plain.feature_info["res2"].stride) for length in size]
    policy = 0 if net is None else net.policy.macs(*net.policy_view_size(*size))
    dropped = (total - blocks) * block.residual_macs(*cell)
    return 2 * (plain.macs(*size) - dropped + policy)


def test_torchvision_weights_load_as_they_are():
    reference = torchvision.models.resnet34(weights=None)
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    assert_loads(dynbackbones.build_backbone("blockdrop_resnet34"), state)


def test_an_untrained_policy_keeps_every_block():
    for name in NETS:
        net = dynbackbones.build_backbone(name).eval()
        # As far from zero as detectron2's images with a standard deviation of 1.
        net(torch.randn(4, 3, 64, 64) * 60 + 10)
        assert net.decisions.block_usage.tolist() == [1] * 4


def test_loading_says_when_all_blocks_will_run(caplog):
    state = dynbackbones.build_backbone("resnet18").state_dict()
    assert not dynbackbones.build_backbone("blockdrop_resnet18").policy.trained
    net = dynbackbones.build_backbone("blockdrop_resnet18")
    net.load_state_dict(state, strict=False)
    message = "policy network of BlockDropResNet is untrained, so that all 8 blocks run"
    assert message in caplog.text
    caplog.clear()
    # The saved state of an untrained policy is one too.
    other = dynbackbones.build_backbone("blockdrop_resnet18")
    other.load_state_dict(net.state_dict())
    assert message in caplog.text and not other.policy.trained
    caplog.clear()
    other.load_state_dict(build().state_dict())
    other.load_state_dict(state, strict=False)
    assert other.policy.trained
    for options in ({"policy_training": "reinforce"}, {"selection": "first"}):
        quiet = dynbackbones.build_backbone("blockdrop_resnet18", **options)
        quiet.load_state_dict(state, strict=False)
    assert not caplog.records


def test_a_dropped_block_is_its_shortcut_without_relu():
    net = build()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), net.select("none"):
        features = net(images)
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        for name, stage in net.stages().items():
            for block in stage:
                x = block.shortcut(x)
            torch.testing.assert_close(features[name], x)
    assert features["res5"].min() < 0


def test_nothing_runs_for_a_block_that_no_image_keeps():
    net = build()
    seen = {}
    blocks = [block for stage in net.stages().values() for block in stage]
    for name, block in zip(net.block_names, blocks, strict=True):
        block.conv1.register_forward_hook(
            lambda _, inputs, __, name=name: seen.update({name: len(inputs[0])})
        )
    policy = torch.zeros(3, 8, dtype=torch.bool)
    policy[:, 0] = policy[0, 3] = policy[1:, 7] = True
    with torch.no_grad(), net.select(policy):
        net(torch.randn(3, 3, 64, 64))
    assert seen == {"res2_block1": 3, "res3_block2": 1, "res5_block2": 2}


class WithProbabilities(nn.Module):
    """Returns what the policy network said too, or a tracer takes it for code without effect."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images), self.net.decisions.probabilities


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", ["random", "none", "all", "first"])
def test_macs_are_what_runs(name, kind):
    net = build(name, execution="sparse")
    with net.select(kind):
        counter = FlopCountAnalysis(WithProbabilities(net), torch.randn(1, 3, 61, 96))
        counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counted = counter.tracer_warnings("none").by_operator()
    assert counted["conv"] + counted["linear"] == net.decisions.macs.item()


@pytest.mark.parametrize("name", NETS)
def test_features_and_images_are_not_overwritten(name):
    net = build(name)
    images = torch.randn(3, 3, 64, 64)
    before = images.clone()
    seen = {}
    for feature, stage in net.stages().items():
        stage.register_forward_hook(lambda *args, key=feature: seen.update({key: args[2].clone()}))
        stage[0].register_forward_hook(lambda *args: seen.setdefault("block", []).append(args[2]))
    policy = torch.rand(3, net.num_blocks, generator=torch.Generator().manual_seed(0)) < 0.5
    policy[:, 0] = True
    with torch.no_grad(), net.select(policy):
        features = net(images)
        kept = [tensor.clone() for tensor in seen["block"]]
    assert torch.equal(images, before)
    assert all(torch.equal(seen[name], feature) for name, feature in features.items())
    with torch.no_grad():
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        torch.testing.assert_close(kept[0], net.layer1[0](x))


def test_macs_without_the_policy_network():
    net = build()
    images = torch.randn(2, 3, 64, 64)
    ones = torch.ones(2, net.num_blocks)
    net.run_blocks(images, ones, image_sizes=[(64, 64), (40, 33)])
    plain = dynbackbones.build_backbone("resnet18")
    assert net.decisions.macs.tolist() == [plain.macs(64, 64), plain.macs(40, 33)]
    assert net.decisions.probabilities is None
    with net.select("all"):
        net(images)
    assert net.decisions.macs.tolist() == [net.macs(64, 64)] * 2


@pytest.mark.parametrize(
    ("depth", "size", "share"),
    [("cifar_resnet32", 32, 0.178), ("cifar_resnet110", 32, 0.048), ("resnet101", 224, 0.030)],
)
def test_cost_of_the_policy_in_the_paper(depth, size, share):
    net = dynbackbones.build_backbone(f"blockdrop_{depth}")
    plain = dynbackbones.build_backbone(depth).macs(size, size)
    assert (net.macs(size, size) - plain) / plain == pytest.approx(share, abs=0.01)


def test_cost_of_resnet101_in_the_paper():
    net = dynbackbones.build_backbone("blockdrop_resnet101")
    assert net.num_blocks == 33
    plain = dynbackbones.build_backbone("resnet101")
    assert 2 * plain.macs(224, 224) == pytest.approx(1.56e10, rel=0.02)


def test_policy_sees_the_image_at_half_of_its_size():
    for policy_size, size, expected in (
        (224, (224, 224), (112, 112)),
        (224, (800, 1344), (112, 188)),
        (None, (65, 97), (33, 49)),
    ):
        net = dynbackbones.build_backbone("blockdrop_resnet18", policy_size=policy_size)
        seen = []
        net.policy.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0].shape[-2:]))
        with torch.no_grad():
            net.policy_probabilities(torch.randn(1, 3, *size))
        assert tuple(seen[0]) == expected == net.policy_view_size(*size)


def test_given_sizes_hold_for_the_policy_and_then_the_forward_pass():
    net = build()
    images, sizes = torch.randn(2, 3, 64, 64), [(64, 64), (33, 50)]
    net.set_image_sizes(sizes)
    with torch.no_grad():
        probabilities = net.policy_probabilities(images)
        net(images)
    torch.testing.assert_close(net.decisions.probabilities, probabilities)
    assert net.decisions.image_sizes == sizes


def test_batch_statistics_see_only_the_images_that_keep_a_block():
    for execution in ("sparse", "masked"):
        net = build(execution=execution).train()
        batch = torch.randn(4, 3, 64, 64)
        policy = torch.ones(4, 8, dtype=torch.bool)
        policy[2:, 1] = False
        expected = copy.deepcopy(net)
        with net.select(policy):
            net(batch)
        x = expected.maxpool(expected.relu(expected.bn1(expected.conv1(batch))))
        x = expected.layer1[0](x)
        expected.layer1[1](x[:2])
        for name in ("bn1", "bn2"):
            ours, theirs = (getattr(n.layer1[1], name) for n in (net, expected))
            torch.testing.assert_close(ours.running_mean, theirs.running_mean)
            torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_a_single_value_per_channel_uses_the_running_statistics():
    net = build().train()
    policy = torch.ones(2, 8, dtype=torch.bool)
    policy[1, 6:] = False
    before = net.layer4[1].bn1.running_mean.clone()
    with net.select(policy):
        features = net(torch.randn(2, 3, 32, 32))
    assert features["res5"].shape[-2:] == (1, 1) and features["res5"].isfinite().all()
    assert torch.equal(net.layer4[1].bn1.running_mean, before)
    assert net.layer4[1].bn1.training


def test_every_parameter_takes_part_in_training():
    for name in NETS:
        net = build(name, policy_training="reinforce").train()
        policy = torch.zeros(2, net.num_blocks, dtype=torch.bool)
        policy[0, 1] = True
        with net.select(policy):
            sum(f.sum() for f in net(torch.randn(2, 3, 64, 64)).values()).backward()
        assert all(p.grad is not None for p in net.parameters()), name
        assert not net.layer2[0].conv1.weight.grad.any()
        assert net.layer1[1].conv1.weight.grad.any()


def test_gradients_equal_those_of_masked_execution():
    results = []
    for execution in ("sparse", "masked"):
        net = build(execution=execution)
        with net.select("random"):
            net(torch.linspace(-1, 1, 3 * 3 * 64 * 64).view(3, 3, 64, 64))["res5"].sum().backward()
        results.append([p.grad for p in net.parameters() if p.grad is not None and p.grad.any()])
    assert len(results[0]) == len(results[1]) > 20
    for sparse, masked in zip(*results, strict=True):
        torch.testing.assert_close(sparse, masked, rtol=1e-3, atol=1e-3 * masked.abs().max().item())


def test_a_frozen_policy_stays_as_it_is():
    net = build(freeze_at=1).train()
    assert not net.policy.training and net.layer1.training and not net.bn1.training
    assert not any(p.requires_grad for p in net.own_parameters()["policy"])
    before = copy.deepcopy(net.policy.state_dict())
    net(torch.randn(2, 3, 64, 64))
    for key, value in net.policy.state_dict().items():
        assert torch.equal(value, before[key])
    assert not net.decisions.probabilities.requires_grad


def test_reinforce_reaches_the_policy_alone_where_the_resnet_is_frozen():
    net = build(policy_training="reinforce", freeze_at=5).train()
    assert net.policy.training and not net.layer4.training
    images = torch.randn(2, 3, 64, 64)
    bounded = bound_probabilities(net.policy_probabilities(images))
    actions = bounded > 0.5
    net.run_blocks(images, actions)
    policy_gradient_loss(bounded, actions, torch.ones(2)).backward()
    assert all(p.grad is not None for p in net.own_parameters()["policy"])
    assert [name for name, p in net.named_parameters() if p.grad is not None] == [
        f"policy.{name}" for name, _ in net.policy.named_parameters()
    ]


def test_decisions_keep_no_graph_and_describe_every_block():
    net = build(policy_training="reinforce").train()
    net(torch.randn(2, 3, 64, 64))
    decisions = net.decisions
    assert not decisions.probabilities.requires_grad
    figures = decisions.figures()
    assert list(figures)[:3] == ["gmacs", "block_usage", "block_usage_res2_block1"]
    assert len(figures) == 2 + net.num_blocks
    per_block = torch.stack([figure.values for figure in list(figures.values())[2:]])
    torch.testing.assert_close(per_block.mean(dim=0), figures["block_usage"].values)
    assert [n for n, f in figures.items() if f.level != "block"] == ["gmacs", "block_usage"]


def test_autocast():
    net = build()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), net.select("random"):
        features = net(torch.randn(3, 3, 64, 64))
    assert all(f.isfinite().all() for f in features.values())
    assert net.decisions.probabilities.dtype == torch.float32


def test_selection_ends_with_its_block():
    net = build(selection=[1] * 8)
    assert net.selection.kind.all()
    with pytest.raises(RuntimeError), net.select("none"):
        raise RuntimeError
    assert net.selection.kind.all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy_training": "free"}, ("policy_training", "'free'", "frozen, reinforce")),
        ({"policy_size": 0}, ("policy_size", 0)),
        ({"selection": [1, 0]}, ("selection", 2, 8, "blocks")),
        ({"selection": "some"}, ("selection", "'some'")),
        ({"execution": "fast"}, ("execution", "'fast'")),
        ({"output_stride": 4}, ("output_stride", 4)),
        ({"freeze_at": 6}, ("freeze_at", 6, "0..5")),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=naming(*words)):
        dynbackbones.build_backbone("blockdrop_resnet18", **options)


@pytest.mark.parametrize(
    ("images", "actions", "words"),
    [
        (torch.randn(2, 3, 64, 64), torch.ones(2, 7), ("actions", (2, 8), (2, 7))),
        (torch.randn(2, 3, 64, 64), torch.ones(1, 8), ("actions", (2, 8), (1, 8))),
        (torch.randn(1, 3, 64, 64), torch.full((1, 8), 0.3), ("actions", 0, 1)),
        (torch.randn(0, 3, 64, 64), torch.ones(0, 8), ("images", (0, 3, 64, 64))),
    ],
)
def test_wrong_actions(images, actions, words):
    with pytest.raises(ValueError, match=naming(*words)):
        build().run_blocks(images, actions)


def test_a_policy_for_another_batch_is_refused():
    net = build()
    refused = pytest.raises(ValueError, match=naming("selection", 3, 2, "images"))
    with net.select(torch.ones(3, 8)), refused:
        net(torch.randn(2, 3, 64, 64))
    with pytest.raises(ValueError, match=naming("selection", 9, 8)), net.select(torch.ones(9)):
        pass


def test_activation_checkpointing_changes_nothing():
    results = []
    policy = torch.ones(3, 8, dtype=torch.bool)
    policy[0, 1] = policy[:2, 4] = policy[:, 6] = False
    for checkpointing in (False, True):
        net = build(activation_checkpointing=checkpointing).train()
        with net.select(policy):
            net(torch.linspace(-1, 1, 3 * 3 * 64 * 64).view(3, 3, 64, 64))["res5"].sum().backward()
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        results.append([*gradients, *(b.clone() for b in net.buffers())])
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@pytest.mark.parametrize("name", ["blockdrop_resnet18", "blockdrop_cifar_resnet20"])
@pytest.mark.parametrize("execution", ["sparse", "masked"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_alternatives_are_what_either_policy_gives(name, execution, seed):
    torch.manual_seed(seed)
    net = dynbackbones.build_backbone(name).eval()
    net.execution = execution
    images = torch.randn(3, 3, 32, 32)
    first = torch.rand(3, net.num_blocks) < 0.7
    second = torch.where(torch.rand(3, net.num_blocks) < 0.2, ~first, first)
    second[0] = first[0]
    # A forced prefix, as in the curriculum.
    second[:, : seed % net.num_blocks] = first[:, : seed % net.num_blocks]
    with torch.no_grad():
        expected = net.run_blocks(images, first)["res4"], net.run_blocks(images, second)["res4"]
    features, rows = net.run_alternatives(images, first, second)
    assert sorted(rows.tolist()) == (first != second).any(dim=1).nonzero().flatten().tolist()
    found = features["res4"]
    # Sums over channels err by a share of the largest values, not of those that cancel out.
    atol = 1e-6 * float(expected[0].abs().max())
    torch.testing.assert_close(found[:3], expected[0], rtol=1e-4, atol=atol)
    split = len(found) - 3
    assert split <= len(rows)  # rows that first differ in res5 are not there yet
    torch.testing.assert_close(found[3:], expected[1][rows[:split]], rtol=1e-4, atol=atol)
    assert torch.equal(net.decisions.policy, first)
