import os
import signal
import time

import pytest
import torch

from dynbackbones.training import stopping
from dynbackbones.training.stopping import Stopped, StopRequest
from tests.messages import names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_the_block_goes_on(tmp_path, number):
    before = signal.getsignal(number)
    with StopRequest(tmp_path) as request:
        assert request.number == 0
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # at once: a terminal's and a parent's
        assert request.number == number
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_the_process_as_usual(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_REPEATED", 0)
    # Tests that a shell started in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), StopRequest(tmp_path):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_after_a_signal_is_the_signals(tmp_path):
    torch.save({}, tmp_path / "iter_3.pth")
    with pytest.raises(Stopped) as stopped, StopRequest(tmp_path):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")
    assert stopped.value.code == 143
    assert names(stopped.value.message, "SIGTERM", tmp_path / "iter_3.pth", "--resume")


def test_errors_without_a_signal_are_errors(tmp_path):
    with pytest.raises(RuntimeError, match="of its own"), StopRequest(tmp_path):
        raise RuntimeError("of its own")


def test_without_a_checkpoint_there_is_nothing_to_continue(tmp_path):
    stopped = Stopped(signal.SIGINT, tmp_path)
    assert stopped.code == 130
    assert names(stopped.message, "SIGINT", "anew")
