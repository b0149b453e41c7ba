import pytest
import torch

import dynbackbones
from dynbackbones.analysis.costs import DecisionMeter, mean_figures


def test_a_static_network_has_its_cost():
    net = dynbackbones.build_backbone("resnet18").eval()
    net(torch.randn(2, 3, 32, 32))
    meter = DecisionMeter()
    meter.update(net.decisions)
    assert meter.result() == {"gmacs": net.macs(32, 32) / 1e9}


@pytest.fixture(scope="module")
def decisions():
    net = dynbackbones.build_backbone("blockdrop_resnet18").eval()
    policy = torch.ones(4, 8, dtype=torch.bool)
    policy[0, 4:] = False
    with torch.no_grad(), net.select(policy):
        net(torch.randn(4, 3, 32, 32))
    return net.decisions


def test_policies_are_compared(decisions):
    meter = DecisionMeter()
    meter.update(decisions)
    values = meter.result()
    assert values["gmacs"] == pytest.approx(float(decisions.macs.mean()) / 1e9)
    assert values["gmacs_std"] == pytest.approx(float(decisions.macs.std(correction=0)) / 1e9)
    assert values["block_usage"] == pytest.approx(28 / 32)
    assert values["block_usage_std"] == pytest.approx(0.5 * (3 / 16) ** 0.5)
    assert values["distinct_policies"] == 2
    assert values["largest_policy_share"] == 0.75
    assert values["policy_entropy_bits"] == pytest.approx(0.8113, abs=1e-4)
    assert values["block_usage_res2_block1"] == 1
    assert values["block_usage_res5_block2"] == 0.75
    assert list(meter.headline()) == [
        *("gmacs", "block_usage", "gmacs_std", "block_usage_std"),
        *("distinct_policies", "largest_policy_share", "policy_entropy_bits"),
    ]


def test_meters_of_single_images_and_of_processes_add_up(decisions):
    whole, merged = DecisionMeter(), DecisionMeter()
    whole.update(decisions)
    merged.merge(DecisionMeter.of_images(decisions))
    assert merged.result() == whole.result()
    whole.merge([merged])
    assert whole.passes == 8
    assert whole.result()["gmacs"] == pytest.approx(merged.result()["gmacs"])


def test_costs_of_windows_add_up_and_rates_are_means():
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    meter = DecisionMeter()
    with torch.no_grad(), net.select("random", rate=0.5):
        net(torch.randn(3, 3, 64, 64))
    meter.update(net.decisions)
    values = meter.result(images=1)
    assert values["gmacs"] == pytest.approx(float(net.decisions.macs.sum()) / 1e9)
    assert values["activation_rate"] == pytest.approx(float(net.decisions.rate.mean()))
    assert "gmacs_std" not in values and "gmacs_std" in meter.result()
    assert meter.result(images=0) == {}
    meter.reset()
    assert meter.result() == {}


def test_single_blocks_are_for_those_who_ask():
    net = dynbackbones.build_backbone("sar_resnet18").train()
    net(torch.randn(1, 3, 64, 64))
    assert "activation_rate_res2" in mean_figures(net.decisions)
    assert "activation_rate_res2_block1" not in mean_figures(net.decisions)
    figures = mean_figures(net.decisions, blocks=True)
    assert figures["activation_rate_res2_block1"] == 1
