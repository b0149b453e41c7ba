import pytest
import torch
from torch import nn

from dynbackbones.layers.stem import StemPool


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (1, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pool_equals_the_plain_one(size, memory_format):
    x = torch.randn(2, 5, *size).contiguous(memory_format=memory_format).requires_grad_()
    expected = nn.MaxPool2d(3, stride=2, padding=1)(x)
    pool = StemPool(3, stride=2, padding=1)
    with torch.no_grad():
        pooled = pool(x)
    assert torch.equal(pooled, expected) and pooled.stride() == expected.stride()
    (gradient,) = torch.autograd.grad(expected.square().sum(), x)
    assert torch.equal(torch.autograd.grad(pool(x).square().sum(), x)[0], gradient)
