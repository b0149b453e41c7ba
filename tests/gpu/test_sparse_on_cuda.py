"""What is skipped on a GPU gives what is computed and masked there."""

import pytest
import torch

from tests.gpu.made_networks import LAYOUTS, SIZES, assert_close, batch, build

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_sparse_equals_masked(layout, padded, device):
    name, options = LAYOUTS[layout]
    net = build(name, **options).to(device)
    sizes = SIZES if padded else None
    for rate in (0.0, 0.4, 1.0):
        found = {}
        with net.select("random", rate=rate, seed=3):
            for execution in ("masked", "sparse"):
                net.execution = execution
                features = net(batch().to(device), image_sizes=sizes)
                found[execution] = features, net.decisions.macs
        assert_close(found["sparse"][0], found["masked"][0], 1e-3)
        assert torch.equal(found["sparse"][1], found["masked"][1])


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_networks_decide_as_on_the_cpu(layout, device):
    name, options = LAYOUTS[layout]
    net = build(name, **options)
    wanted, rates, choices = net(batch(), SIZES), net.decisions.rate, net.decisions.choices()
    assert 0 < rates.mean() < 1
    net.to(device)
    net(batch().to(device), SIZES)
    chosen = net.decisions.choices()
    pairs = [(chosen, choices)]
    if isinstance(choices, dict):
        pairs = [(chosen[stage], choices[stage]) for stage in choices]
    same = torch.cat([(one.cpu() == other).flatten() for one, other in pairs])
    # A logit at its threshold may fall to either side.
    assert same.float().mean() > 0.995
    with net.select(choices):
        assert_close(net(batch().to(device), SIZES), wanted, 1e-3)


@pytest.mark.parametrize("execution", ["masked", "sparse"])
@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_every_selection_gives_what_it_gives_on_the_cpu(layout, execution, device):
    name, options = LAYOUTS[layout]
    net = build(name, **options)
    kinds = ["all", "none", "random", "distributed", "first"]
    if hasattr(net, "loss_weight"):
        kinds = ["all", "none", "random", "center", "uniform"]
    net.execution = execution
    for kind in kinds:
        with net.select(kind, rate=0.3, seed=1):
            wanted, rate = net.to("cpu")(batch(), SIZES), net.decisions.rate
            found = net.to(device)(batch().to(device), SIZES)
        assert_close(found, wanted, 1e-3)
        torch.testing.assert_close(net.decisions.rate.cpu(), rate)
