"""What a model computes for a size."""

import torch

import dynbackbones
from dynbackbones.zoom.costs import Costs


def test_a_network_that_was_prepared_for_inference_costs_what_it_did():
    net = dynbackbones.build_backbone("resnet18").eval()
    fast = dynbackbones.optimize_for_inference(net)
    plain, packed = (
        Costs(lambda x, made=made: made(x[None])).macs((64, 64), torch.zeros(3, 1, 1))
        for made in (net, fast)
    )
    assert plain == packed == net.macs(64, 64)
