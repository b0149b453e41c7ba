"""Buffers that stay in float32."""

import copy

import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.layers.precise import PreciseBuffers


class Thresholds(PreciseBuffers):
    precise = ("exact",)

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.register_buffer("exact", torch.tensor([0.9989, 0.9991]))
        self.register_buffer("rounded", torch.tensor(0.9989))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_they_keep_their_type_and_value(dtype):
    module = nn.Sequential(Thresholds())
    before = module[0].exact.clone()
    module.to(dtype)
    assert module[0].rounded.dtype == module[0].fc.weight.dtype == dtype
    assert module[0].exact.dtype == torch.float32 and torch.equal(module[0].exact, before)
    twin = copy.deepcopy(module)
    module[0].exact.zero_()
    assert twin[0].exact.all()
    assert module.to("meta")[0].exact.device.type == "meta"


def test_a_calibrated_policy_drops_as_many_blocks_in_bfloat16():
    torch.manual_seed(0)
    net = dynbackbones.build_backbone("blockdrop_cifar_resnet20").eval()
    net.policy.fc.bias.data = torch.linspace(5, 9, 9)
    nn.init.normal_(net.policy.fc.weight, std=1e-3)
    images = torch.rand(4, 3, 32, 32)
    reached = dynbackbones.calibrate(net, images, target_rate=0.5)
    assert 0.4 < reached < 0.6
    net.bfloat16()(images.bfloat16())
    assert net.policy.threshold.dtype == torch.float32
    assert float(net.decisions.rate.mean()) == pytest.approx(reached, abs=1 / 9)


def test_exits_in_bfloat16_meet_the_rate_that_calibration_returns():
    torch.manual_seed(0)
    net = dynbackbones.build_classifier("glance_focus_cifar_resnet8", 10, patch=16, steps=3).eval()
    nn.init.normal_(net.head.fc.weight, std=3.0)
    net.bfloat16()
    images = torch.rand(32, 3, 32, 32).bfloat16()
    reached = dynbackbones.calibrate(net, images, target_rate=0.6)
    net(images)
    assert float(net.decisions.rate.mean()) == pytest.approx(reached, abs=1e-6)
