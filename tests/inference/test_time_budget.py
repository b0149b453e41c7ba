"""A budget in milliseconds; here a forward pass takes a millisecond for each million MACs."""

import json
import logging

import pytest
import torch

import dynbackbones
from dynbackbones.inference import ReachedTime, time_budget
from dynbackbones.inference.time_budget import RATES, ROUNDS, TimeTable, measure_time, time_table
from tests.messages import naming

MACS = 1e6


@pytest.fixture
def passes(monkeypatch, tmp_path):
    """The forward passes that were timed, in a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    seen = []

    def milliseconds(net, image):
        with torch.inference_mode():
            net(image)
        seen.append(float(net.decisions.macs.mean()) / MACS)
        return seen[-1]

    monkeypatch.setattr(time_budget, "milliseconds_of", milliseconds)
    return seen


@pytest.fixture(params=["sar_resnet18", "blockdrop_resnet18"])
def net(request):
    torch.manual_seed(0)
    net = dynbackbones.build_backbone(request.param).eval()
    for stage in net.stages().values():
        for selector in getattr(stage, "selectors", ()):
            torch.nn.init.normal_(selector.fc.weight, std=3.0)
    if hasattr(net, "policy"):
        torch.nn.init.normal_(net.policy.fc.weight, std=3.0)
    return net


def images():
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def test_a_table_never_falls_and_is_read_on_a_line():
    table = TimeTable.of([0.0, 0.5, 1.0], [10.0, 30.0, 20.0])
    assert table.milliseconds == (10.0, 30.0, 30.0)
    assert [table.rate_for(ms) for ms in (1, 10, 20, 30, 99)] == [0.0, 0.0, 0.25, 1.0, 1.0]
    rates = [table.rate_for(ms) for ms in range(40)]
    assert rates == sorted(rates)


def test_it_is_measured_once_for_a_network_a_size_and_a_way_to_run(net, passes, tmp_path):
    table = time_table(net, images().split(1))
    assert len(passes) == ROUNDS * len(RATES)
    assert table.milliseconds[0] < table.milliseconds[-1]
    assert time_table(net, images().split(1)) == table
    assert len(passes) == ROUNDS * len(RATES)
    (file,) = tmp_path.rglob("*.json")
    assert json.loads(file.read_text())["network"] == net.title
    time_table(net, [images()[:1, :, :64]])
    net.execution = "masked"
    time_table(net, images().split(1))
    assert len(passes) == 3 * ROUNDS * len(RATES)
    # Other weights take as long.
    net.load_state_dict({name: value + 1 for name, value in net.state_dict().items()})
    time_table(net, images().split(1))
    assert len(passes) == 3 * ROUNDS * len(RATES)


def test_a_damaged_file_is_measured_anew(net, passes, tmp_path, caplog):
    table = time_table(net, images().split(1))
    (file,) = tmp_path.rglob("*.json")
    file.write_text("{")
    with caplog.at_level(logging.WARNING, "dynbackbones"):
        assert time_table(net, images().split(1)) == table
    assert str(file) in caplog.text


def test_a_sar_network_meets_a_time_in_between(passes):
    torch.manual_seed(0)
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    for stage in net.stages().values():
        for selector in stage.selectors:
            torch.nn.init.normal_(selector.fc.weight, std=3.0)
    low, *_, high = time_table(net, images().split(1)).milliseconds
    rates = []
    for part in (0.2, 0.5, 0.8):
        target = low + part * (high - low)
        reached = dynbackbones.calibrate(net, images(), target_ms=target)
        assert isinstance(reached, ReachedTime)
        assert reached.p50_ms == pytest.approx(target, rel=0.08)
        assert reached.p50_ms <= reached.p95_ms
        net(images())
        assert float(net.decisions.rate.mean()) == pytest.approx(reached.rate, abs=1e-6)
        rates.append(reached.rate)
    assert rates == sorted(rates) and rates[0] < rates[-1]


@pytest.mark.filterwarnings("ignore:calibrate reached a rate")
def test_what_cannot_be_met_is_said_and_what_is_ample_runs_all(net, passes):
    low, *_, high = time_table(net, images().split(1)).milliseconds
    with pytest.warns(UserWarning, match=naming("ms instead of")):
        reached = dynbackbones.calibrate(net, images(), target_ms=low / 2)
    assert reached.rate == pytest.approx(0, abs=0.02)
    reached = dynbackbones.calibrate(net, images(), target_ms=3 * high)
    assert reached.rate == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_ms": 0}, ("target_ms", 0)),
        ({"target_ms": 5, "target_rate": 0.5}, ("target_rate", "target_ms")),
        ({}, ("target_rate", "target_ms")),
    ],
)
def test_wrong_targets_are_named(options, words):
    net = dynbackbones.build_backbone("sar_resnet18")
    with pytest.raises(ValueError, match=naming(*words)):
        dynbackbones.calibrate(net, images(), **options)


def test_real_times_are_positive_and_ordered():
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    median, late = measure_time(net, [images()[:1, :, :64, :64]])
    assert 0 < median <= late


def test_ways_to_run_that_take_different_times_have_tables_of_their_own(net):
    image = torch.zeros(1, 3, 32, 32)
    keys = [time_budget._key(net, image)]
    with torch.autocast("cpu", torch.bfloat16):
        keys.append(time_budget._key(net, image))
    next(iter(net.stages().values())).native_rows = object()
    keys.append(time_budget._key(net, image))
    assert len(set(keys)) == 3
