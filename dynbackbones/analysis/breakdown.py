"""Where a backbone's time goes: base branch, selectors, gathering, products, fusion, and so on."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from dynbackbones.backbones.base import Backbone

Parts = dict[str, list[nn.Module]]

# What sparse execution is made of, by the operators that nothing else uses much.
OPERATORS = {
    "gather": ("aten::index_select",),
    "products": ("aten::addmm", "aten::mm"),
    "scatter": ("aten::index_copy_", "aten::index_copy"),
}


@torch.inference_mode()
def breakdown(net: Backbone, images: Tensor, *, repeats: int = 10) -> dict[str, float]:
    """Median seconds of the parts of a backbone's forward pass on a CPU.

    Args:
        net: a backbone of this package in evaluation mode.
        images: (N, 3, H, W) input.
        repeats: forward passes to take the medians of.

    Returns:
        Seconds by part; they add up to ``"total"``. In a SAR network ``"gather"``, ``"products"``
        and ``"scatter"`` are parts of ``"refinement"``, measured by the profiler in a run of their
        own, and not added.
    """
    rounds: dict[str, list[float]] = defaultdict(list)
    parts = _parts(net)
    timers = [_Timer(name, modules) for name, modules in parts.items()]
    try:
        for turn in range(repeats + 1):
            for timer in timers:
                timer.seconds = 0.0
            start = time.perf_counter()
            net(images)
            total = time.perf_counter() - start
            if turn:  # the first warms up
                rounds["total"].append(total)
                for timer in timers:
                    rounds[timer.name].append(timer.seconds)
    finally:
        for timer in timers:
            timer.remove()
    seconds = {name: statistics.median(values) for name, values in rounds.items()}
    operators = _operators(net, images, repeats) if net.sparse_convolutions() else {}
    return _as_shares(seconds, parts) | operators


def _parts(net: Backbone) -> Parts:
    return {name: modules for name, modules in net.timed_parts().items() if modules}


def _as_shares(seconds: dict[str, float], parts: Parts) -> dict[str, float]:
    """Takes parts out of those that contain them, and all parts out of the total."""
    for name, modules in parts.items():
        inside = {child for module in modules for child in module.modules()} - set(modules)
        for other, others in parts.items():
            if other != name and others[0] in inside:
                seconds[name] -= seconds[other]
    total = seconds.pop("total")
    return {**seconds, "other": total - sum(seconds.values()), "total": total}


def _operators(net: nn.Module, images: Tensor, repeats: int) -> dict[str, float]:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            net(images)
    own = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    return {
        name: sum(own.get(operator, 0.0) for operator in operators) * 1e-6 / repeats
        for name, operators in OPERATORS.items()
    }


class _Timer:
    """Adds up the time spent in some modules.

    Args:
        name: of the part.
        modules: not inside each other.
    """

    def __init__(self, name: str, modules: Iterable[nn.Module]) -> None:
        self.name = name
        self.seconds = 0.0
        self._start = 0.0
        self._handles = [
            handle
            for module in modules
            for handle in (
                module.register_forward_pre_hook(self._enter),
                module.register_forward_hook(self._leave),
            )
        ]

    def _enter(self, *_: object) -> None:
        self._start = time.perf_counter()

    def _leave(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start

    def remove(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()
