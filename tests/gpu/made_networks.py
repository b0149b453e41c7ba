"""Networks for checks on a GPU: nothing about them is neutral, and their values have scale 1."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import dynbackbones
from dynbackbones.backbones.dynamic import DynamicBackbone

SIZES = [(130, 150), (96, 101), (57, 149)]
"""Of the images of `batch`, without padding."""

LAYOUTS = {
    "paper": ("sar_resnet50", {"groups": 2, "selector_margin": 0.0}),
    "scale 4": ("sar_resnet18", {"groups": 4, "base_scale": 4, "selector_margin": 0.0}),
    "resnet": ("sar_resnet18", {"layout": "resnet", "selector_margin": 0.0}),
    "blockdrop": ("blockdrop_resnet50", {}),
}


def batch(seed: int = 0) -> Tensor:
    """(3, 3, 130, 150) images on the CPU."""
    return torch.randn(len(SIZES), 3, *SIZES[0], generator=torch.Generator().manual_seed(seed))


def build(name: str, **options) -> DynamicBackbone:
    """A network as training leaves it, in evaluation mode, on the CPU."""
    return copy.deepcopy(_built(name, tuple(options.items())))


@cache
@torch.no_grad()
def _built(name: str, pairs: tuple[tuple[str, Any], ...]) -> DynamicBackbone:
    torch.manual_seed(0)
    net = dynbackbones.build_backbone(name, **dict(pairs)).train()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.uniform_(0.5, 1.0)
            module.bias.normal_(std=0.2)
            module.momentum = None  # the mean of what it has seen
            module.train()
    for stage in net.stages().values():
        for selector in getattr(stage, "selectors", ()):
            selector.fc.bias.normal_(std=0.1)
    if hasattr(net, "policy"):
        net.policy.fc.weight.normal_()
        net.policy(batch(1))
    net(batch(1))
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.1
    return net.eval()


def assert_close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], limit: float) -> None:
    """Makes sure that features differ by at most ``limit`` times the largest value of each."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        difference = (found[name].float().to(value.device) - value.float()).abs().max()
        assert difference <= limit * value.float().abs().max(), f"{name}: {float(difference)}"


@contextmanager
def exact_float32() -> Iterator[None]:
    """Inside, products of float32 are not rounded to TF32."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = False
    try:
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value
