import pytest
import torch

from dynbackbones.policy import PolicyResNet8
from tests.messages import naming


def test_each_place_decides_by_what_is_there():
    torch.manual_seed(0)
    net = PolicyResNet8(16, places=4).eval()
    assert net.fc.weight.shape == (1, 16 + 32 + 64)
    assert net.macs(8, 8) - PolicyResNet8(16).macs(8, 8) == 16 * (16 + 32 + 64) - 16 * 64
    assert net(torch.rand(2, 3, 9, 13)).shape == (2, 16)
    assert net(torch.rand(1, 3, 1, 1)).shape == (1, 16)
    assert not net.trained
    with torch.no_grad():
        net.fc.weight.normal_()
    assert net.trained
    images = torch.zeros(1, 3, 32, 32)
    images[..., :8, 8:16] = 5
    there = (net(images) - net(torch.zeros(1, 3, 32, 32)))[0].abs()
    assert there.argmax() == 1
    with torch.no_grad():
        net.fc.weight.zero_()
        net.place_bias[3] = 9
    assert (net(images)[0] > 0.9).nonzero().flatten().tolist() == [3]


def test_actions_that_are_no_grid_of_places_are_refused():
    with pytest.raises(ValueError, match=naming(9, places=3, got=5)):
        PolicyResNet8(5, places=3)
    with pytest.raises(ValueError, match=naming("num_actions", 0)):
        PolicyResNet8(0)
