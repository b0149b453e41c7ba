"""One selector for all refinement blocks of a stage, in place of one for each."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dynbackbones
from tests.backbones.sar.test_resnet_layout import with_statistics
from tests.messages import naming

NETWORKS = {
    "paper": lambda **options: dynbackbones.SARResNet(50, **options),
    "basic blocks": lambda **options: dynbackbones.SARResNet(34, groups=4, beta=2, **options),
    "resnet": lambda **options: dynbackbones.SARResNet(50, layout="resnet", **options),
    "more groups than masks": lambda **options: dynbackbones.build_backbone(
        "sar_resnext50_32x4d", **options
    ),
    "inverted residuals": lambda **options: dynbackbones.SARMobileNetV2(**options),
    "small images": lambda **options: dynbackbones.SARCifarResNet(20, **options),
}


def trained_like(net):
    """Norm layers and selectors of which nothing is neutral."""
    with_statistics(net)
    generator = torch.Generator().manual_seed(1)
    for stage in net.stages().values():
        for selector in stage.selectors:
            nn.init.normal_(selector.fc.weight, std=3.0, generator=generator)
            nn.init.normal_(selector.fc.bias, std=0.1, generator=generator)
        if hasattr(stage.fusion, "scale"):
            nn.init.normal_(stage.fusion.scale, generator=generator)
    return net


def build(kind, **options):
    torch.manual_seed(0)
    return trained_like(NETWORKS[kind](regions_per="stage", **options)).eval()


def assert_same(features, expected, tolerance=1e-4):
    for name, feature in features.items():
        scale = expected[name].abs().max().item() + 1e-6
        torch.testing.assert_close(feature, expected[name], rtol=tolerance, atol=tolerance * scale)


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(list(NETWORKS)),
    grid_size=st.sampled_from([None, None, 5]),
    images=st.integers(1, 2),
    height=st.integers(33, 110),
    width=st.integers(33, 110),
    choice=st.sampled_from(["learned", "all", "none", "uniform", "random"]),
    rate=st.floats(0, 1),
    padded=st.booleans(),
    gradients=st.booleans(),
)
def test_sparse_equals_masked(
    kind, grid_size, images, height, width, choice, rate, padded, gradients
):
    net = build(kind, grid_size=grid_size)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(images, 3, height, width, generator=generator)
    before = batch.clone()
    sizes = [(height - 7 * i, width - 9 * i) for i in range(images)] if padded else None
    if choice != "learned":
        net.selection = net.make_selection(choice, rate, seed=0)
    with torch.set_grad_enabled(gradients):
        net.execution = "masked"
        masked, macs = net(batch, sizes), net.decisions.macs
        net.execution = "sparse"
        sparse = net(batch, sizes)
    assert_same(sparse, masked)
    assert torch.equal(net.decisions.macs, macs)
    assert torch.equal(batch, before)
    for mask in net.decisions.masks.values():
        assert mask.shape[:2] == (images, 1)


@torch.no_grad()
@pytest.mark.parametrize("execution", ["masked", "sparse"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_it_is_the_network_whose_blocks_chose_the_same(kind, execution):
    shared = build(kind, execution=execution)
    single = trained_like(NETWORKS[kind](execution=execution)).eval()
    missing, _ = single.load_state_dict(shared.state_dict(), strict=False)
    assert missing and all(".selectors." in name for name in missing)
    images, sizes = torch.randn(2, 3, 75, 90), [(75, 90), (64, 70)]
    found = shared(images, sizes)
    rates = shared.decisions.activation_rate
    assert ((rates > 0) & (rates < 1)).all()
    with single.select(shared.decisions.choices()):
        assert_same(found, single(images, sizes), 1e-5)
    spent, selectors = shared.decisions.macs, single.macs(75, 90, 0) - shared.macs(75, 90, 0)
    assert selectors > 0
    assert (single.decisions.macs[0] - spent[0]).item() == pytest.approx(selectors)
    masks = shared.decisions.masks
    with shared.select(masks):
        assert_same(shared(images, sizes), found, 1e-6)
    several = {name: mask.repeat(1, 2, 1, 1, 1) for name, mask in masks.items()}
    words = naming("res2", "(2, 2, ", "(2, 1, ")
    with shared.select(several), pytest.raises(ValueError, match=words):
        shared(images, sizes)


@pytest.mark.parametrize("layout", ["paper", "resnet"])
def test_weights_are_those_of_the_first_of_several_selectors(layout):
    each = dynbackbones.SARResNet(34, layout=layout).state_dict()
    shared = dynbackbones.SARResNet(34, layout=layout, regions_per="stage").state_dict()
    gone = {f".selectors.{number}." for number in range(1, 5)}
    assert shared.keys() == {key for key in each if not any(part in key for part in gone)}
    assert all(shared[key].shape == each[key].shape for key in shared)


def test_of_two_blocks_a_stage_both_kinds_are_the_same_network():
    torch.manual_seed(0)
    each = trained_like(dynbackbones.SARResNet(18)).eval()
    torch.manual_seed(0)
    shared = trained_like(dynbackbones.SARResNet(18, regions_per="stage")).eval()
    images = torch.randn(1, 3, 64, 64)
    for one, other in zip(each(images).values(), shared(images).values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["paper", "resnet", "small images"])
def test_it_trains_towards_its_target_and_its_guide(kind):
    torch.manual_seed(0)
    net = build(kind, guidance="objects", track_target=True, loss_rate="expected")
    images = torch.randn(2, 3, 64, 64)
    net.set_progress(0.75)
    net.set_guidance(boxes=[torch.tensor([[8.0, 8.0, 30.0, 40.0]])] * 2)
    features = net.train()(images)
    losses = net.auxiliary_losses()
    assert set(losses) == {"loss_activation_rate", "loss_guidance"}
    (sum(f.square().mean() for f in features.values()) + sum(losses.values())).backward()
    for name, parameter in net.named_parameters():
        if ".selectors." in name:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    selectors = [one for stage in net.stages().values() for one in stage.selectors]
    assert len(net.thresholds()) == len(selectors) == len(net.stages()) == 3
    assert any(float(threshold) != 0 for threshold in net.thresholds())


def test_calibration_meets_a_rate():
    net = build("paper")
    images = torch.randn(2, 3, 96, 96)
    reached = dynbackbones.calibrate(net, images, target_rate=0.3, tolerance=0.05)
    assert reached == pytest.approx(0.3, abs=0.08)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["paper", "resnet", "basic blocks"])
def test_optimised_it_gives_the_same(kind):
    net = build(kind, execution="sparse")
    images = torch.randn(1, 3, 96, 128)
    wanted = net(images)
    fast = dynbackbones.optimize_for_inference(net)
    with fast.select(net.decisions.choices()):
        assert_same(fast(images), wanted, 1e-3)


def test_other_words_are_refused():
    with pytest.raises(ValueError, match=naming("regions_per", "'image'", "block", "stage")):
        dynbackbones.SARResNet(18, regions_per="image")
