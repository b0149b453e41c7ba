import pytest
import torch

from dynbackbones import SARCifarResNet, SARDecisions
from tests.backbones.sar.executions import assert_sparse_equals_masked
from tests.messages import naming


def images(n=2, size=(32, 32), seed=0):
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("options", "rate", "macs"),
    [
        # SAR's tables I, II, III and XI.
        ({"branches": "base", "alpha": 1}, 0, 82e6),
        ({"groups": 2}, 0.7, 121e6),
        ({"groups": 4}, 0.7, 84e6),
        ({"alpha": 1}, 0.7, 160e6),
        ({"alpha": 1, "base_scale": 4}, 0.7, 132e6),
        ({"beta": 2}, 0.7, 344e6),
        # Table I: of a map's pixels every second one, and the middle three quarters of both axes.
        ({}, 0.49, 98e6),
        ({}, 0.5625, 105e6),
    ],
)
def test_macs_of_the_papers_tables(options, rate, macs):
    net = SARCifarResNet(32, **options)
    assert net.macs(32, 32, rate) == pytest.approx(macs, rel=0.012)


@pytest.mark.parametrize(
    ("options", "printed", "rates"),
    [
        # SAR's tables II, III and XI by target: 10^6 MACs, and the rate at which a network has
        # them. Wherever a batch has the target, the networks stay above it, most at low targets.
        ({"groups": 1}, {0.3: 138, 0.5: 173, 0.7: 213}, (0.434, 0.599, 0.787)),
        ({"groups": 2}, {0.3: 91, 0.5: 102, 0.7: 121}, (0.425, 0.528, 0.707)),
        ({"groups": 4}, {0.3: 65, 0.5: 74, 0.7: 84}, (0.360, 0.529, 0.717)),
        ({"groups": 4, "beta": 2}, {0.3: 127, 0.6: 182}, (0.357, 0.625)),
        ({"alpha": 1, "base_scale": 4}, {0.3: 101, 0.5: 113, 0.7: 132}, (0.407, 0.520, 0.699)),
        ({"alpha": 1}, {0.3: 125, 0.5: 141, 0.7: 160}, (0.369, 0.519, 0.698)),
        ({"beta": 2}, {0.3: 223, 0.5: 268, 0.7: 344}, (0.412, 0.522, 0.707)),
        # Table XIII: every image has the target.
        ({"alpha": 1}, {0.3: 118, 0.5: 139, 0.7: 161}, (0.303, 0.500, 0.708)),
    ],
)
def test_rates_that_the_papers_networks_really_have(options, printed, rates):
    net = SARCifarResNet(32, **options)
    none, everything = net.macs(32, 32, 0), net.macs(32, 32, 1)
    implied = [(macs * 1e6 - none) / (everything - none) for macs in printed.values()]
    assert implied == pytest.approx(rates, abs=0.0006)
    for target, rate in zip(printed, implied, strict=True):
        assert target - 0.01 < rate < target + 0.14


def test_width_of_figure_4():
    # About 37 M at t 0.5 for SAR-ResNet-20; the default width of 2 has 63.1 M.
    assert SARCifarResNet(20, width=1.5).macs(32, 32, 0.5) / 1e6 == pytest.approx(36.3, abs=0.05)
    assert SARCifarResNet(20).macs(32, 32, 0.5) / 1e6 == pytest.approx(63.1, abs=0.05)


@pytest.mark.parametrize("branches", ["both", "refinement"])
@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_sparse_equals_masked(branches, rate):
    net = SARCifarResNet(20, branches=branches, width=1).eval()
    with net.select("random", rate=rate):
        assert_sparse_equals_masked(net, images(size=(33, 40)))


def test_regions_form_the_papers_grids():
    net = SARCifarResNet(20, width=1).eval()
    net(images())
    grids = {name: tuple(mask.shape[-2:]) for name, mask in net.decisions.masks.items()}
    assert grids == {"res2": (4, 4), "res3": (4, 4), "res4": (2, 2)}


def test_the_base_branch_alone_decides_nothing():
    net = SARCifarResNet(20, branches="base", alpha=1, width=1)
    names = " ".join(name for name, _ in net.named_parameters())
    assert "refinement" not in names and "selectors" not in names
    net.train()(images())["res4"].sum().backward()
    assert net.auxiliary_losses() == {}
    assert not isinstance(net.decisions, SARDecisions)
    assert net.decisions.macs.tolist() == [net.macs(32, 32, 0.0)] * 2
    assert net.macs(32, 32, 0.0) == net.macs(32, 32, 1.0)


def test_without_the_base_branch_its_features_change_nothing_but_the_regions():
    net = SARCifarResNet(20, branches="refinement", width=1).eval()
    for parameter in net.layer1.base.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad(), net.select("all"):
        without = net(images())["res2"]
        for parameter in net.layer1.base.parameters():
            torch.nn.init.ones_(parameter)
        assert torch.equal(net(images())["res2"], without)
        assert not torch.equal(SARCifarResNet(20, width=1).eval()(images())["res2"], without)


def test_selectors_learn_from_the_refinement_branch_alone():
    net = SARCifarResNet(20, branches="refinement", width=1, selector_margin=0).train()
    net(images())["res4"].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.layer1.selectors.parameters())


@pytest.mark.parametrize(
    ("options", "others"),
    [
        ({"depth": 18}, "20, 32, 56, 110"),
        ({"branches": "none"}, "both, base, refinement"),
        ({"width": 0}, "positive"),
        ({"groups": 3}, "channels"),
    ],
)
def test_wrong_options(options, others):
    with pytest.raises(ValueError, match=naming(others, **options)):
        SARCifarResNet(**{"depth": 20, **options})
