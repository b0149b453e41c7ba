"""Bookkeeping of interleaved measurements; no test depends on how long anything takes."""

from contextlib import contextmanager

import pytest

from dynbackbones.analysis.candidates import Candidate
from dynbackbones.analysis.latency import Timing, measure
from dynbackbones.analysis.latency_report import break_even_rate, fit_usage, latency_table
from tests.messages import naming


class FakeClock:
    """A clock that moves only when something runs."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def timing(backbone, seconds, macs=1e9, execution=None, rate=None):
    return Timing(Candidate(backbone, lambda: None, execution, rate), seconds, macs)


def test_rounds_run_every_candidate_once_and_rotate_the_first():
    order, clock = [], FakeClock()

    def run(name, seconds):
        def forward():
            order.append(name)
            clock.now += seconds

        return Candidate(name, forward)

    times = measure([run("a", 1), run("b", 2), run("c", 4)], repeats=3, warmup=1, clock=clock)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert times == [[1] * 3, [2] * 3, [4] * 3]


def test_contexts_are_not_timed_and_pending_work_is():
    clock, events = FakeClock(), []

    @contextmanager
    def context():
        clock.now += 100
        events.append("enter")
        yield
        clock.now += 100
        events.append("leave")

    def synchronize():
        events.append("synchronize")
        clock.now += 10

    candidate = Candidate("a", lambda: events.append("forward"), context=context)
    times = measure([candidate], repeats=1, warmup=0, synchronize=synchronize, clock=clock)
    assert events == ["enter", "synchronize", "forward", "synchronize", "leave"]
    assert times == [[10]]


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"warmup": -1}])
def test_rounds_must_make_sense(wrong):
    with pytest.raises(ValueError, match=naming(**wrong)):
        measure([], **wrong)


def test_median_quartiles_and_ratios():
    reference = timing("resnet50", [4.0], macs=4e9)
    other = timing("sar_resnet50", [1.0, 2.0, 3.0, 4.0, 100.0], 2e9, "sparse", 0.5)
    assert other.median == 3 and other.quartiles == (2, 4)
    assert reference.quartiles == (4, 4)
    row = other.to_dict(reference)
    assert row["ratio"] == 0.75 and row["mac_ratio"] == 0.5 and row["repeats"] == 5
    header, first, second = latency_table([reference, other]).splitlines()
    assert first.split() == ["resnet50", "-", "-", "4000.0", "4000.0", "-", "4000.0", "1.00",
                             "4.00", "1.00"]  # fmt: skip
    assert second.split()[-3:] == ["0.75", "2.00", "0.50"]
    assert len(header) == len(first) == len(second)


def sweep(sparse, masked, rates=(0.25, 0.5, 0.75)):
    return [
        timing("sar", [value], 1, execution, rate)
        for execution, values in (("sparse", sparse), ("masked", masked))
        for rate, value in zip(rates, values, strict=False)
    ]


def test_break_even_is_interpolated():
    assert break_even_rate(sweep([1, 2, 4], [3, 3, 3]), "sar") == pytest.approx(0.625)


@pytest.mark.parametrize("sparse", [[1, 2, 2.5], [4, 5, 6], []])
def test_without_a_crossing_there_is_no_break_even(sparse):
    assert break_even_rate(sweep(sparse, [3, 3, 3]), "sar") is None


def test_line_of_time_against_blocks():
    timings = [
        Timing(Candidate("blockdrop", lambda: None, "sparse", 0.0), [seconds], 1, blocks)
        for blocks, seconds in ((0, 1.0), (10, 6.0), (20, 11.0))
    ]
    timings.append(timing("resnet", [4.0]))
    fit = fit_usage(timings, "blockdrop", "sparse", 20)
    assert (fit.fixed_seconds, fit.seconds_per_block) == pytest.approx((1.0, 0.5))
    assert fit.r_squared == pytest.approx(1) and fit.seconds(0.5) == pytest.approx(6)
    timings[1].seconds[:] = [9.0]
    assert fit_usage(timings, "blockdrop", "sparse", 20).r_squared < 0.95


def test_two_points_make_no_fit():
    timings = [
        Timing(Candidate("blockdrop", lambda: None, "sparse", 0.0), [1.0], 1, blocks)
        for blocks in (0, 3, 3)
    ]
    assert fit_usage(timings, "blockdrop", "sparse", 3) is None
    assert fit_usage(timings, "blockdrop", "masked", 3) is None
