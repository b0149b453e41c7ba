"""Many calls leave no memory behind."""

import gc
import os
from pathlib import Path

import pytest
import torch

import dynbackbones
from dynbackbones.backbones import base
from tests.fuzzing import FACTOR

NAMES = ["cifar_resnet20", "sar_cifar_resnet20", "blockdrop_cifar_resnet20"]
CALLS = 60
GROWTH = 100
"""Python's objects that may stay, however many calls there are: fewer than two a call."""
RESIDENT = 32 * 2**20
"""Bytes by which the process may grow, however many calls there are."""


def images(call):
    return torch.rand(1, 3, 16 + call % 5, 16 + call % 3)


def living():
    gc.collect()
    found = gc.get_objects()
    return sum(issubclass(type(one), torch.Tensor) for one in found), len(found)


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def grown(step):
    """Tensors, objects and bytes that ``CALLS`` calls leave once all sizes are known."""
    for call in range(15):
        step(call)
    before = *living(), resident()
    for call in range(CALLS * FACTOR):
        step(call)
    left = tuple(new - old for new, old in zip((*living(), resident()), before, strict=True))
    print(f"{CALLS * FACTOR} calls left {left[0]} tensors, {left[1]} objects, {left[2]} bytes")
    return left


@pytest.fixture(params=NAMES)
def net(request):
    return dynbackbones.build_backbone(request.param)


@pytest.mark.fuzz
def test_evaluation(net):
    def step(call):
        with torch.no_grad():
            net(images(call))
        net.decisions.macs.sum()

    net.eval()
    left, objects, memory = grown(step)
    assert left <= 0 and objects < GROWTH and memory < RESIDENT


@pytest.mark.fuzz
def test_selections_and_training(net):
    dynamic = isinstance(net, dynbackbones.backbones.DynamicBackbone)

    def step(call):
        net.train()
        net.zero_grad()
        out = net(torch.cat([images(call)] * 2))
        losses = net.auxiliary_losses() if dynamic else {}
        (sum(losses.values()) + sum(map(torch.mean, out.values()))).backward()
        if dynamic:
            net.set_progress(call % 10 / 10)
            with torch.no_grad(), net.eval().select("random", rate=0.5, seed=call):
                net(images(call))

    left, objects, memory = grown(step)
    assert left <= 0 and objects < GROWTH and memory < RESIDENT


def test_what_is_remembered_is_bounded(net, monkeypatch):
    monkeypatch.setattr(base, "REMEMBERED", 8)
    for side in range(16, 40):
        with torch.no_grad():
            net.eval()(torch.rand(1, 3, side, 16))
        net.decisions.macs.sum()
    kept = [value for value in vars(net).values() if isinstance(value, dict) and value]
    sizes = [known for known in kept if any(key == (39, 16) for key in known)]
    assert all(len(known) <= 8 for known in sizes)
    assert len(sizes) == (not type(net).__name__.startswith("Cifar"))


def test_something_left_is_noticed():
    left = []
    assert grown(lambda call: left.append(torch.rand(1)))[0] == CALLS * FACTOR
