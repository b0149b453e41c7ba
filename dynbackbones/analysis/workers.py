"""Networks timed in processes of their own, which are asked in turn.

Thread pools of other runtimes go on spinning after their work and take the cores of whatever runs
next; asleep in a process of their own, between two questions, they do not.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from dynbackbones.analysis.candidates import Candidate, Ready
from dynbackbones.analysis.latency import Timing, measure
from dynbackbones.inference.allocator import tune_allocator

Prepare = Callable[[], list[Ready]]
"""Makes what a worker runs; it is pickled."""


@dataclass(frozen=True)
class Failure:
    """Why a worker has nothing to run.

    Attributes:
        name: of the worker.
        reason: in a line.
    """

    name: str
    reason: str


class Worker:
    """A process with candidates of its own, which runs one when asked.

    Args:
        name: of the worker.
        prepare: makes them, in the process.
        threads: that it computes with; it is pinned to as many cores.
    """

    def __init__(self, name: str, prepare: Prepare, threads: int) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, prepare, threads), name=name, daemon=True
        )
        self._process.start()
        other.close()

    def ready(self) -> list[Ready] | Failure:
        """Waits until all is prepared."""
        try:
            found = self._answer()
        except RuntimeError as error:
            found = str(error)
        if isinstance(found, str):
            return Failure(self.name, found)
        return [Ready(Candidate(*described), *costs) for described, *costs in found]

    def run(self, index: int) -> tuple[float, float]:
        """Wall seconds and processor seconds of a forward pass of one of its candidates."""
        self._pipe.send(index)
        return self._answer()

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"the process of {self.name} ended with exit code {self._process.exitcode}"
            ) from None

    def close(self) -> None:
        """Ends the process."""
        with suppress(OSError):  # where it has ended by itself
            self._pipe.send(None)
        self._process.join(5)
        self._process.terminate()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, prepare: Prepare, threads: int) -> None:
    """What a worker's process does: prepares, then runs what it is asked for."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    tune_allocator()
    try:
        with torch.inference_mode():
            ready = prepare()
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
        return
    pipe.send([_described(one) for one in ready])
    with torch.inference_mode():
        while (index := pipe.recv()) is not None:
            candidate = ready[index].candidate
            with candidate.context():
                cpu, start = time.process_time(), time.perf_counter()
                candidate.forward()
                pipe.send((time.perf_counter() - start, time.process_time() - cpu))


def _described(one: Ready) -> tuple:
    candidate = one.candidate
    return (candidate.backbone, _elsewhere, candidate.execution, candidate.rate), *one[1:]


def _elsewhere() -> None:
    """Stands for a forward pass that another process runs."""


def compare_in_workers(
    prepare: Mapping[str, Prepare],
    *,
    threads: int = 1,
    repeats: int = 20,
    warmup: int = 3,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    started: Callable[[str], None] = lambda name: None,
) -> tuple[list[Timing], list[Failure]]:
    """Times networks side by side, each in a process of its own.

    The caller's main module must allow processes to be started (``if __name__ == "__main__"``).

    Args:
        prepare: what makes the candidates of each worker, by its name.
        threads: of each.
        repeats, warmup, progress: see `measure`.
        started: told the name of each worker before it is waited for.

    Returns:
        A `Timing` for each candidate, with its processor time; and which workers had none.
    """
    with ExitStack() as stack:
        asked, ready, failures = [], [], []
        for name, one in prepare.items():
            # One after the other: compilers use all cores.
            started(name)
            worker = Worker(name, one, threads)
            stack.callback(worker.close)
            found = worker.ready()
            if isinstance(found, Failure):
                failures.append(found)
                continue
            asked += [(worker, index) for index in range(len(found))]
            ready += found
        if not ready:
            return [], failures
        cpu: list[list[float]] = [[] for _ in asked]

        def ask(number: Callable[[], int]) -> float:
            worker, index = asked[number()]
            wall, seconds = worker.run(index)
            cpu[number()].append(seconds)
            return wall

        # Here a forward pass only says which of them all is asked for.
        candidates = [
            Candidate(one.candidate.backbone, lambda number=number: number)
            for number, one in enumerate(ready)
        ]
        seconds = measure(
            candidates, repeats=repeats, warmup=warmup, stopwatch=ask, progress=progress
        )
    return [
        Timing(one.candidate, wall, *one[1:], cpu_seconds=own[warmup:])
        for one, wall, own in zip(ready, seconds, cpu, strict=True)
    ], failures
