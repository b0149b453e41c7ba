"""One network in one treatment, ready to be timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from dynbackbones.analysis.candidates import Candidate
from tests.gpu.networks import Place

Run = Callable[[], dict[str, Tensor]]

MODES = ("eager", "graph", "compiled", "max-autotune")
"""Eager; the rest are replays of a CUDA graph, of eager or compiled forward passes."""

SECONDS = {"eager": 4.0, "graph": 5.0, "compiled": 45.0, "max-autotune": 150.0}
"""What preparing one is thought to take until one has been prepared."""


@dataclass
class Contestant:
    """What is timed, or why it could not be.

    Attributes:
        network: its name in tables.
        treatment: likewise.
        plain: whether it is a plain network, an opponent.
        run: a forward pass; None where that failed.
        context: around it, outside of the measured time.
        reference: a forward pass in the same context whose features it must have.
        rate: of regions or blocks.
        macs: for each image; None where nobody counted.
        seconds: that preparing it took.
        note: what else to know.
        error: why there are no figures, in a line.
        difference: relative error of its features.
    """

    network: str
    treatment: str
    plain: bool
    run: Run | None = None
    context: Callable[[], AbstractContextManager] = nullcontext
    reference: Run | None = None
    rate: float | None = None
    macs: float | None = None
    seconds: float = 0.0
    note: str = ""
    error: str = ""
    difference: float | None = None

    @property
    def label(self) -> str:
        return f"{self.network}, {self.treatment}"

    @property
    def mode(self) -> str:
        """The treatment's part that says how it is run."""
        return self.treatment.split()[-1]

    def candidate(self) -> Candidate:
        """For `dynbackbones.analysis.latency.measure`."""
        return Candidate(self.label, self.run, rate=self.rate, context=self.context)


def one_line(error: BaseException) -> str:
    """An exception in at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' / '.join(lines[:3])}"[:300]


class Preparation:
    """Makes contestants and keeps their time.

    Args:
        place: where they run.
        seconds_left: of the whole run.
        captures: whether CUDA graphs are captured.
    """

    def __init__(
        self, place: Place, seconds_left: Callable[[], float], *, captures: bool = True
    ) -> None:
        self.place = place
        self.captures = captures and place.on_gpu
        self._seconds_left = seconds_left
        self._expected = dict(SECONDS)

    def fits(self, mode: str, reserve: float = 15.0) -> bool:
        """Whether there is time left to prepare one more, and to time it."""
        return self._seconds_left() > 1.3 * self._expected[mode] + reserve

    def start(self, net: nn.Module, images: Tensor, mode: str) -> tuple[Run, str, float]:
        """A network in a mode, after its first forward passes.

        Returns:
            What runs it, a note, and the seconds that this took.
        """
        start = time.perf_counter()
        run, note = self._run(net, images, mode)
        run()
        if self.place.on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        self._expected[mode] = seconds
        return run, note, seconds

    def _run(self, net: nn.Module, images: Tensor, mode: str) -> tuple[Run, str]:
        if mode in ("compiled", "max-autotune"):
            net = compiled(net, mode, self.place)
        run = partial(net, images)
        if mode == "eager" or not self.captures:
            return run, ""
        return replayed(run, needed=mode == "graph")


def compiled(net: nn.Module, mode: str, place: Place) -> Callable[[Tensor], dict[str, Tensor]]:
    """A network through `torch.compile`, without graph breaks and for one shape."""
    if not place.on_gpu:
        return torch.compile(net, fullgraph=True, dynamic=False, backend="aot_eager")
    # Graphs are captured alike for all, by hand.
    name = "default" if mode == "compiled" else "max-autotune-no-cudagraphs"
    return torch.compile(net, fullgraph=True, dynamic=False, mode=name)


def warm_up(run: Run, passes: int = 3) -> None:
    """Runs on a stream of its own, as capturing asks for: compiles, tunes, fills pools."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(passes):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()


def captured(run: Run) -> Run:
    """Replays of a CUDA graph of a forward pass; features lie in the same memory each time."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            features = run()
    except BaseException:
        torch.cuda.set_stream(stream)  # a capture that fails stays on its own
        raise

    def replay(needed: Run = run) -> dict[str, Tensor]:
        # The graph reads the network's weights: it must live as long.
        graph.replay()
        return features

    return replay


def replayed(run: Run, *, needed: bool) -> tuple[Run, str]:
    """Replays of a forward pass after warming up, and a note.

    Args:
        run: the forward pass.
        needed: raise where it cannot be captured; else it runs as it is, and the note says why.
    """
    warm_up(run)
    try:
        return captured(run), ""
    except RuntimeError as error:
        if needed:
            raise
        torch.cuda.synchronize()
        return run, f"not captured as a graph: {one_line(error)}"
