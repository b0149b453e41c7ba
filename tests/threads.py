"""Runs of several threads, whose errors are the test's."""

import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from dynbackbones.backbones.base import find_backbones
from tests.fuzzing import FACTOR

Job = TypeVar("Job")
Result = TypeVar("Result")

THREADS = 4


def together(*calls: Callable[[], Result]) -> list[Result]:
    """The results of calls that begin at the same time, each in a new thread."""
    begin = threading.Barrier(len(calls), timeout=60)

    def run(call):
        begin.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(timeout=300) for future in [pool.submit(run, c) for c in calls]]


def share(ask: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
    """Results of all jobs alone; in several threads at once each must have them bit by bit.

    Args:
        ask: gives tensors, `Decisions` and containers of them.
        jobs: each thread does all of them in an order of its own, anew in every longer run.
    """
    alone = [ask(job) for job in jobs]
    expected = [parts(result) for result in alone]

    def work(seed):
        order = list(range(len(jobs)))
        for turn in range(FACTOR):
            random.Random(seed + THREADS * turn).shuffle(order)
            for index in order:
                with torch.no_grad():
                    found = parts(ask(jobs[index]))
                assert found.keys() == expected[index].keys()
                for name, value in found.items():
                    assert same(value, expected[index][name]), (jobs[index], name)

    with often():
        together(*(lambda seed=seed: work(seed) for seed in range(THREADS)))
    return alone


def same(one, other) -> bool:
    """Whether tensors are equal bit by bit, or other values are."""
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def parts(result) -> dict[str, object]:
    """Whatever tensors and numbers there are in a result, by their place in it."""
    if hasattr(result, "image_sizes"):  # decisions
        figures = {name: figure.values for name, figure in result.figures().items()}
        result = {"figures": figures, "choices": result.choices(), "sizes": result.image_sizes}
    if isinstance(result, dict):
        items = result.items()
    elif isinstance(result, list | tuple):
        items = enumerate(result)
    else:
        return {"": result}
    return {f"{key}/{name}": v for key, one in items for name, v in parts(one).items()}


@contextmanager
def often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@torch.no_grad()
def scattered(model: nn.Module) -> None:
    """Has the one backbone of a model decide by the image."""
    (net,) = find_backbones(model)
    for threshold in net.thresholds():
        threshold.zero_()
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and name.endswith(".fc"):
            nn.init.normal_(module.weight, std=3)
            nn.init.zeros_(module.bias)
