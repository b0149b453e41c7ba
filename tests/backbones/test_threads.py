"""Threads that share a network: whole detectors' tests lie with their engines."""

import threading

import pytest
import torch

import dynbackbones
from dynbackbones.backbones.base import remember
from tests.threads import together

NAMES = ["sar_resnet18", "blockdrop_resnet18", "sar_cifar_resnet20", "blockdrop_cifar_resnet20"]


@pytest.mark.parametrize("name", NAMES)
def test_a_selection_is_of_the_thread_that_made_it(name):
    net = dynbackbones.build_backbone(name).eval()
    images, turn, rates = torch.rand(1, 3, 32, 32), threading.Barrier(2, timeout=60), {}

    def rate():
        with torch.no_grad():
            net(images)
        return float(net.decisions.rate)

    own = rate()

    def first():
        with net.select("all"):
            turn.wait()
            turn.wait()  # the second one selects
            rates["all"] = rate()
        turn.wait()
        rates["after all"] = rate()

    def second():
        turn.wait()
        with net.select("none"):
            turn.wait()
            turn.wait()  # the first one's selection ends
            rates["none"] = rate()
        rates["after none"] = rate()

    together(first, second)
    assert rates == {"all": 1, "none": 0, "after all": own, "after none": own}
    assert net.selection is None and rate() == own


def test_a_selection_for_good_holds_in_all_threads():
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    net.selection, rates = net.make_selection("none", 0.5, 0), []

    def work():
        with torch.no_grad():
            net(torch.rand(1, 3, 32, 32))
        rates.append(float(net.decisions.rate))

    together(work, work)
    assert rates == [0, 0]


def test_passes_without_losses_are_of_one_thread():
    net = dynbackbones.build_backbone("sar_resnet18").train()
    turn, losses = threading.Barrier(2, timeout=60), {}

    def work(name, context):
        if name == "kept":
            turn.wait()  # within the other thread's context
        with context():
            if name == "none":
                turn.wait()
            net(torch.rand(2, 3, 32, 32))
            turn.wait()
        losses[name] = list(net.auxiliary_losses())

    together(
        lambda: work("none", net.no_auxiliary),
        lambda: work("kept", torch.enable_grad),
    )
    assert losses == {"none": [], "kept": ["loss_activation_rate"]}
    assert net.records_auxiliary


def test_costs_are_counted_while_another_thread_forgets_them():
    class Forgotten(dict):
        def __contains__(self, key):
            known = super().__contains__(key)
            self.clear()  # what another thread does at that moment
            return known

    known = Forgotten({3: 9})
    for key in (3, 3, 4):
        assert remember(known, key, lambda key: key**2) == key**2
