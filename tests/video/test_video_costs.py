"""Figures of the papers of AdaFrame and LiteEval: what can be counted, and what was printed."""

import pytest
import torch
import torchvision
from torch import nn

from dynbackbones import video
from dynbackbones.errors import UserError
from dynbackbones.video import costs
from tests.messages import naming

R101, MEMORY = 7.82e9, 1.32e9  # printed
UNIFORM = {25: 25 * R101}


def near(value, share=0.01):
    return pytest.approx(value, rel=share)


@pytest.fixture(scope="module")
def mobilenet():
    return torchvision.models.mobilenet_v2()


def test_resnet_101():
    encoders = [video.FrameEncoder(torchvision.models.resnet101(), size) for size in (112, 224)]
    small, large = (encoder.macs() for encoder in encoders)
    assert small == near(2.006e9) and large == near(7.80e9) and large == near(R101)
    assert 1 - small / large == near(0.743) and round(100 * (1 - small / large)) == 74


def test_the_memory(mobilenet):
    each = video.FrameEncoder(mobilenet, 112).macs()
    assert each == near(0.0809e9)
    whole = each + 1280 * 1000  # with its classifier
    assert whole == near(0.0822e9)
    for frames, counted, printed in ((12, 0.986, 0.98), (16, 1.315, 1.32), (32, 2.630, 2.61)):
        assert frames * whole == near(counted * 1e9) and frames * whole == near(printed * 1e9)


def test_the_encoder_leaves_the_network_whole(mobilenet):
    encoder = video.FrameEncoder(mobilenet, 64)
    assert encoder.channels == 1280
    assert isinstance(mobilenet.classifier, nn.Sequential)
    with torch.no_grad():
        assert mobilenet.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("hidden", "classes", "lstm", "attention"),
    [(2048, 239, 44.0e6, 2.66e6), (1024, 200, 17.8e6, 1.35e6)],
)
def test_a_step_of_adaframe(hidden, classes, lstm, attention):
    assert costs.lstm_step_macs(2048 + 1280, hidden) == near(lstm)
    assert costs.attention_macs(hidden, 1280, 16) == near(attention)
    with torch.device("meta"):
        agent = video.AdaFrame(2048, 1280, classes, hidden=hidden)
    assert agent.step_macs() == near(lstm + attention + hidden * classes)
    if hidden == 2048:
        assert sum(p.numel() for p in agent.cell.parameters()) == near(44.06e6, 1e-3)


def test_an_lstm_over_25_frames():
    assert UNIFORM[25] == near(195.5e9)
    # As printed for ActivityNet; the LSTM's input is the frame alone.
    assert UNIFORM[25] + 25 * costs.lstm_step_macs(2048, 1024) == near(195.8e9)


@pytest.mark.parametrize(
    ("frames", "once", "saved", "each_frame"), [(8.21, 65.5, 66.5, 75.0), (8.65, 69.0, 64.7, 79.1)]
)
def test_accountings_of_adaframe(frames, once, saved, each_frame):
    macs = costs.adaframe_video_macs(frames, R101, MEMORY)
    assert macs == near(once * 1e9) and 100 * (1 - macs / UNIFORM[25]) == near(saved)
    assert costs.adaframe_video_macs(frames, R101, MEMORY, "each_frame") == near(each_frame * 1e9)


@pytest.mark.parametrize(("precision", "printed"), [(80.2, 58.9), (71.5, 63.3)])
def test_the_printed_savings_are_those_of_the_mean_average_precision(precision, printed):
    """The text takes 80.2 and 71.5, which are mAP in percent, as cost."""
    assert 100 * (1 - precision / 195) == near(printed, 2e-3)


def test_what_charging_the_memory_for_each_frame_explains():
    each = R101 + MEMORY
    assert 1 - costs.adaframe_video_macs(2, R101, MEMORY, "each_frame") / 195e9 == near(0.906)
    assert 25.1e9 / each == near(2.75)
    assert (25.1e9 - MEMORY) / R101 > 3  # more frames than AdaFrame-3 has


def test_liteeval():
    # The code's LSTMs in all, printed; 129 frames of MobileNetV2 at 112.
    fixed = 129 * 0.08e9 + 1.34e9
    frames = (94.3e9 - fixed) / R101
    assert frames == near(10.6) and frames / 129 == near(0.082)
    macs = costs.liteeval_video_macs(129, 10.6, 0.08e9, R101, 1.34e9)
    assert macs == near(94.3e9)
    # The text leaves out the LSTM's state and its four gates.
    text = 2560 * 2048 / R101
    assert text == near(0.00067)
    assert costs.lstm_step_macs(512 + 2048, 2048) / R101 == near(0.0048, 0.02)
    assert costs.lstm_step_macs(1280 + 2048, 2048) / R101 == near(0.0056)


def test_a_step_of_liteeval():
    net = video.LiteEval(1280, 2048, 239)
    skipped, taken = (net.step_macs(fine) for fine in (False, True))
    assert taken - skipped == near(44.0e6)
    assert skipped == near(costs.lstm_step_macs(1280, 512) + 2 * (1280 + 4096) + 2048 * 239, 1e-6)


def test_a_charge_that_is_not_known():
    with pytest.raises(UserError, match=naming("memory", "'never'")):
        costs.adaframe_video_macs(3, R101, MEMORY, "never")
