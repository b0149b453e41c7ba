import threading

import pytest
import torch

import dynbackbones


@pytest.mark.parametrize("name", ["resnet18", "sar_resnet18", "blockdrop_resnet18"])
def test_each_thread_has_the_decisions_of_its_own_call(name):
    net, wrong = dynbackbones.build_backbone(name).eval(), []
    turn = threading.Barrier(2, timeout=60)

    def work(side):
        with torch.no_grad():
            assert net.decisions is None
            net.set_image_sizes([(side - 3, side)])
            turn.wait()
            net(torch.randn(1, 3, side, side))
            turn.wait()
            if net.decisions.image_sizes != [(side - 3, side)]:
                wrong.append(side)

    threads = [threading.Thread(target=work, args=(side,)) for side in (32, 64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and not turn.broken
    assert net.decisions is None


def test_losses_are_collected_by_the_thread_that_made_them():
    net = dynbackbones.build_backbone("sar_resnet18").train()
    net(torch.randn(2, 3, 64, 64))
    found = []
    thread = threading.Thread(target=lambda: found.append(net.auxiliary_losses()))
    thread.start()
    thread.join()
    assert found == [{}]
    assert list(net.auxiliary_losses()) == ["loss_activation_rate"]
