"""Workers are processes: what they run and measure is their own."""

import os
import time
from functools import partial

import pytest
import torch

import dynbackbones
from dynbackbones.analysis.candidates import Candidate, Ready, make_ready
from dynbackbones.analysis.workers import Failure, Worker, compare_in_workers


def sleeping_and_working(seconds):
    def work():
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    return [
        Ready(Candidate("asleep", partial(time.sleep, seconds)), 1.0),
        Ready(Candidate("at work", work, "auto", 0.5), 2.0, 3.0, 4),
    ]


def failing():
    raise ValueError("no such runtime\nand more")


def leaving():
    os._exit(3)


def leaving_later():
    return [Ready(Candidate("gone", partial(os._exit, 4)), 1.0)]


def sar(images):
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    choices = {"rates": [0.25, 1.0], "executions": ["auto"]}
    return make_ready("sar", net, images, **choices)


def test_times_are_those_of_the_worker_both_of_the_wall_and_of_the_processor():
    timings, failures = compare_in_workers(
        {"two": partial(sleeping_and_working, 0.05)}, repeats=3, warmup=1
    )
    assert failures == []
    asleep, working = timings
    assert [len(timing.seconds) for timing in timings] == [3, 3]
    assert asleep.median >= 0.05 > 0.02 > max(asleep.cpu_seconds)
    assert min(working.cpu_seconds) >= 0.05
    assert working.candidate.rate == 0.5
    assert (working.macs, working.blocks, working.num_blocks) == (2.0, 3.0, 4)


def test_what_cannot_be_prepared_is_left_out_with_the_reason():
    prepare = {"wrong": failing, "gone": leaving, "fine": partial(sleeping_and_working, 0)}
    started = []
    timings, failures = compare_in_workers(prepare, repeats=1, warmup=0, started=started.append)
    assert started == ["wrong", "gone", "fine"]
    assert [timing.candidate.backbone for timing in timings] == ["asleep", "at work"]
    assert failures[0] == Failure("wrong", "ValueError: no such runtime")
    assert failures[1].name == "gone" and "exit code 3" in failures[1].reason


def test_a_process_that_ends_while_it_is_asked_is_named():
    with pytest.raises(RuntimeError, match="late .* exit code 4"):
        compare_in_workers({"late": leaving_later}, repeats=1, warmup=0)


def test_a_network_chooses_in_its_worker():
    worker = Worker("sar", partial(sar, torch.randn(1, 3, 64, 64)), threads=1)
    try:
        low, high = worker.ready()
        assert low.candidate.rate == 0.25 and low.macs < high.macs
        assert min(worker.run(1)) > 0
    finally:
        worker.close()
