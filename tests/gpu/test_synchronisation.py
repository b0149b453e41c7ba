"""A masked forward pass never waits for the GPU, so that the processor can run ahead of it."""

from contextlib import contextmanager

import pytest
import torch

from tests.gpu.made_networks import LAYOUTS, SIZES, batch, build

pytestmark = pytest.mark.cuda


@contextmanager
def no_waiting(device):
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_a_masked_pass_does_not_wait(layout, padded, device):
    name, options = LAYOUTS[layout]
    net = build(name, **options).to(device)
    net.execution = "masked"
    images, sizes = batch().to(device), SIZES if padded else None
    net(images, sizes)
    if layout == "blockdrop" and padded:
        return  # its policy network sees each image without padding
    choices = net.decisions.choices()
    with no_waiting(device):
        net(images, sizes)
    with net.select(choices), no_waiting(device):
        net(images, sizes)


@torch.no_grad()
def test_waiting_is_noticed(device):
    if device.type == "cuda":
        with pytest.raises(RuntimeError, match="synchroniz"), no_waiting(device):
            torch.ones(1, device=device).item()
