import pytest
import torch

from dynbackbones.policy import PolicyResNet8
from tests.messages import naming


def test_a_pooled_map_tells_places_apart_as_a_mean_cannot():
    torch.manual_seed(0)
    net = PolicyResNet8(5, pool=2).eval()
    assert net.fc.weight.shape == (5, 4 * 64)
    assert net.macs(8, 8) - PolicyResNet8(5).macs(8, 8) == 5 * 3 * 64
    assert net(torch.rand(2, 3, 9, 13)).shape == (2, 5)
    with torch.no_grad():
        net.fc.weight[0, ::4] = 1  # the upper left quarter of each channel's map
    images = torch.zeros(1, 3, 32, 32)
    images[..., :4, :4] = 5
    first, last = (float(net(x)[0, 0].detach()) for x in (images, images.flip(2, 3)))
    assert abs(first - last) > 1e-3


def test_a_pool_below_one_is_refused():
    with pytest.raises(ValueError, match=naming(pool=0)):
        PolicyResNet8(5, pool=0)
