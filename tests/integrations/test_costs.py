import pytest
import torch

import dynbackbones
from dynbackbones.analysis.costs import dataset_values, headline, image_values


def test_a_static_network_has_its_cost():
    net = dynbackbones.build_backbone("resnet18").eval()
    net(torch.randn(2, 3, 32, 32))
    values = image_values(net.decisions)
    assert dataset_values(values) == {"macs": net.macs(32, 32)}


def test_policies_are_compared():
    net = dynbackbones.build_backbone("blockdrop_resnet18").eval()
    policy = torch.ones(4, 8, dtype=torch.bool)
    policy[0, 4:] = False
    with torch.no_grad(), net.select(policy):
        net(torch.randn(4, 3, 32, 32))
    values = dataset_values(image_values(net.decisions))
    assert values["macs"] == pytest.approx(float(net.decisions.macs.mean()))
    assert values["macs_std"] == pytest.approx(float(net.decisions.macs.std(correction=0)))
    assert values["block_usage"] == pytest.approx(28 / 32)
    assert values["block_usage_std"] == pytest.approx(0.5 * (3 / 16) ** 0.5)
    assert values["distinct_policies"] == 2
    assert values["largest_policy_share"] == 0.75
    assert values["policy_entropy_bits"] == pytest.approx(0.8113, abs=1e-4)
    assert values["block_usage_res2_block1"] == 1
    assert values["block_usage_res5_block2"] == 0.75
    assert [name for name in values if headline(name)] == [
        *("macs", "block_usage", "macs_std", "block_usage_std"),
        *("distinct_policies", "largest_policy_share", "policy_entropy_bits"),
    ]
