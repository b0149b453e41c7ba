"""SAR stages around a ResNet's: the ResNet exactly at the start, and trained from there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dynbackbones
from tests.backbones.sar.executions import assert_sparse_equals_masked
from tests.messages import naming


def with_statistics(net, seed=0):
    """Norm layers as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for child in net.modules():
        if hasattr(child, "running_mean"):
            with torch.no_grad():
                child.running_mean.normal_(std=0.2, generator=generator)
                child.running_var.uniform_(0.5, 2.0, generator=generator)
                child.weight.uniform_(0.5, 1.0, generator=generator)
                child.bias.normal_(std=0.2, generator=generator)
    return net


def plain_and_sar(depth=18, **options):
    """A ResNet, and a SAR network around it with the ResNet's weights."""
    torch.manual_seed(0)
    plain = with_statistics(dynbackbones.ResNet(depth, **options))
    net = dynbackbones.SARResNet(depth, layout="resnet", **options)
    missing, unexpected = net.load_state_dict(plain.state_dict(), strict=False)
    assert set(missing) <= net.decision_keys() and not unexpected
    return plain, net


@settings(max_examples=15, deadline=None)
@given(
    depth=st.sampled_from([18, 34, 50]),
    output_stride=st.sampled_from([32, 16, 8]),
    stride_in_1x1=st.booleans(),
    norm=st.sampled_from(["BN", "FrozenBN"]),
    height=st.integers(33, 110),
    width=st.integers(33, 110),
    padded=st.booleans(),
    training=st.booleans(),
)
def test_it_starts_as_exactly_the_resnet(
    depth, output_stride, stride_in_1x1, norm, height, width, padded, training
):
    plain, net = plain_and_sar(
        depth, output_stride=output_stride, stride_in_1x1=stride_in_1x1, norm=norm
    )
    images = torch.rand(2, 3, height, width)
    sizes = [(height, width), (height - 20, width - 9)] if padded else None
    plain.train(training)
    net.train(training)
    with torch.no_grad():
        if training:  # the selectors' samples are random
            net.selection = net.make_selection("all", 1.0, 0)
        expected, found = plain(images, sizes), net(images, sizes)
    for name, feature in expected.items():
        assert torch.equal(found[name], feature), name
    assert net.decisions.rate.tolist() == [1.0, 1.0]


def test_names_are_the_resnets_and_the_added_ones_stand_apart():
    plain, net = plain_and_sar(50)
    added = net.state_dict().keys() - plain.state_dict().keys()
    assert added == net.decision_keys()
    assert {key.split(".")[1] for key in added} == {"base", "selectors", "fusion"}
    assert [info.module for info in net.feature_info.values()] == [
        "layer1.fusion", "layer2.fusion", "layer3.fusion", "layer4",
    ]  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(
    depth=st.sampled_from([18, 50]),
    output_stride=st.sampled_from([32, 16, 8]),
    base_scale=st.sampled_from([2, 4]),
    alpha=st.sampled_from([1, 2, 4]),
    grid_size=st.sampled_from([None, None, 5]),
    height=st.integers(33, 150),
    width=st.integers(33, 150),
    rate=st.floats(0, 1),
    padded=st.booleans(),
)
def test_sparse_equals_masked(
    depth, output_stride, base_scale, alpha, grid_size, height, width, rate, padded
):
    torch.manual_seed(0)
    net = with_statistics(
        dynbackbones.SARResNet(
            depth, layout="resnet", output_stride=output_stride, base_scale=base_scale,
            alpha=alpha, grid_size=grid_size,
        )
    ).eval()  # fmt: skip
    for stage in net.stages().values():
        nn.init.normal_(stage.fusion.scale)
    images = torch.randn(2, 3, height, width)
    sizes = [(height, width), (height - 20, width - 9)] if padded else None
    with net.select("random", rate=rate):
        assert_sparse_equals_masked(net, images, sizes)


@torch.no_grad()
@pytest.mark.parametrize("treatment", [{}, {"channels_last": True}])
def test_optimised_it_gives_the_same(treatment):
    _, net = plain_and_sar(50)
    with_statistics(net.eval())
    for stage in net.stages().values():
        nn.init.normal_(stage.fusion.scale)
    images = torch.rand(1, 3, 96, 128)
    if treatment:
        images = images.contiguous(memory_format=torch.channels_last)
    with net.select("random", rate=0.4):
        expected = net(images)
    optimised = dynbackbones.optimize_for_inference(net)
    with optimised.select("random", rate=0.4):
        found = optimised(images)
    for name, feature in expected.items():
        scale = feature.abs().max().item()
        torch.testing.assert_close(found[name], feature, rtol=1e-3, atol=1e-3 * scale)


def test_three_steps_from_frozen_norms_move_all_that_was_added():
    _, net = plain_and_sar(50, norm="FrozenBN", freeze_at=2)
    net.train()
    net.set_progress(0.2)  # low temperatures leave most samples without a gradient
    before = {name: p.clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.05)
    for seed in range(3):
        images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(seed))
        features = net(images)
        loss = sum(f.square().mean() for f in features.values())
        loss = loss + sum(net.auxiliary_losses().values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for number, part in ((n, p) for n in (1, 2, 3) for p in ("base", "selectors", "fusion.scale")):
        inside = {
            name: parameter
            for name, parameter in net.named_parameters()
            if name.startswith(f"layer{number}.{part}")
        }
        # A step can be too small for a norm's weight of 1, but there is one.
        assert all(parameter.grad.any() for parameter in inside.values()), (number, part)
        assert any(not torch.equal(before[name], p) for name, p in inside.items()), (number, part)
    frozen = [n for n, p in net.named_parameters() if not p.requires_grad]
    assert all(torch.equal(before[n], dict(net.named_parameters())[n]) for n in frozen)
    assert any(n.startswith("layer1.0.") for n in frozen)


def test_freezing_leaves_what_was_added_alone():
    _, net = plain_and_sar(18, freeze_at=3)
    added = net.decision_keys()
    for name, parameter in net.named_parameters():
        frozen = name.startswith(("conv1", "bn1", "layer1", "layer2")) and name not in added
        assert parameter.requires_grad != frozen, name
    net.train()
    modes = {name: module.training for name, module in net.named_modules()}
    assert not modes["layer2.0.bn1"] and modes["layer2.base.0.bn1"] and modes["layer3.0.bn1"]


def test_macs_are_the_resnets_and_what_was_added():
    plain, net = plain_and_sar(18)
    images = torch.rand(1, 3, 160, 224)
    net.eval()
    with torch.no_grad():
        net(images)
        assert float(net.decisions.macs) == pytest.approx(net.macs(160, 224))
        with net.select("none"):
            net(images)
    nothing = float(net.decisions.macs)
    refined = sum(
        block.residual_macs(*(-(-n // s) for n in (160, 224)))
        for s, name in ((4, "layer1"), (8, "layer2"), (16, "layer3"))
        for block in list(getattr(plain, name))[1:]
    )
    assert net.macs(160, 224) - nothing == pytest.approx(refined)
    assert nothing < plain.macs(160, 224) < net.macs(160, 224) < 1.05 * plain.macs(160, 224)


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ({"groups": 2}, "groups", 2),
        ({"beta": 2}, "beta", 2),
        ({"layout": "other"}, "layout", "other"),
        ({"layout": "paper", "stride_in_1x1": True}, "stride_in_1x1", True),
        ({"layout": "paper", "added_norm": "GN"}, "added_norm", "GN"),
    ],
)
def test_wrong_options(options, key, value):
    with pytest.raises(ValueError, match=naming(key, value)):
        dynbackbones.SARResNet(18, **{"layout": "resnet", **options})


def test_a_resnets_weights_load(tmp_path):
    plain, net = plain_and_sar(18)
    file = tmp_path / "resnet.pth"
    torch.save({"model": {**plain.state_dict(), "fc.weight": torch.zeros(5, 512)}}, file)
    report = dynbackbones.load_weights(net, file)
    assert set(report.new) <= net.decision_keys()
    assert report.left_out == ("fc.weight",)
