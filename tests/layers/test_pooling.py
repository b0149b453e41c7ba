import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dynbackbones.layers.pooling import PaddedAvgPool2d


class NotACPU(torch.Tensor):
    """A tensor that says it is on a GPU, while the CPU computes."""

    @property
    def device(self):
        return torch.device("cuda")


def gradient(pool, x):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = pool(x.as_subclass(NotACPU) if isinstance(pool, PaddedAvgPool2d) else x)
    weights = torch.arange(out.numel(), dtype=torch.float64).view(out.shape)
    (out.as_subclass(torch.Tensor) * weights).sum().backward()
    return out.as_subclass(torch.Tensor).detach(), x.grad


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)])
def test_padding_apart_is_the_same(size, stride, monkeypatch):
    x = torch.randn(2, 3, *size, dtype=torch.float64).to(memory_format=torch.channels_last)
    padded = []
    pad = F.pad
    monkeypatch.setattr(F, "pad", lambda *a, **k: padded.append(1) or pad(*a, **k))
    for result, expected in zip(
        gradient(PaddedAvgPool2d(3, stride, padding=1), x),
        gradient(nn.AvgPool2d(3, stride, padding=1), x),
        strict=True,
    ):
        assert torch.allclose(result, expected, atol=1e-12)
    assert padded  # nothing was left to the kernel with the wrong gradient


@pytest.mark.cuda
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_on_a_gpu(layout):
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    pool = PaddedAvgPool2d(3, 2, padding=1)
    grads = []
    for device in ("cpu", "cuda"):
        own = x.to(device).contiguous(memory_format=layout).detach().requires_grad_()
        out = pool(own)
        weights = torch.arange(out.numel(), dtype=torch.float64, device=device).view(out.shape)
        (out * weights).sum().backward()
        grads.append(own.grad.cpu())
    assert torch.allclose(*grads)
