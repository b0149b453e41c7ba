"""Where a backbone's time goes: base branch, selectors, gathering, products, fusion, and so on."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from dynbackbones.backbones.sar.stage import SARStage
from dynbackbones.policy.network import PolicyNetwork

# What sparse execution is made of, by the operators that nothing else uses much.
OPERATORS = {
    "gather": ("aten::index_select",),
    "products": ("aten::addmm", "aten::mm"),
    "scatter": ("aten::index_copy_", "aten::index_copy"),
}


@torch.inference_mode()
def breakdown(net: nn.Module, images: Tensor, *, repeats: int = 10) -> dict[str, float]:
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
    timers = [_Timer(name, modules) for name, modules in _parts(net).items()]
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
    return _as_shares({name: statistics.median(values) for name, values in rounds.items()}) | (
        _operators(net, images, repeats) if "refinement" in rounds else {}
    )


def _parts(net: nn.Module) -> dict[str, list[nn.Module]]:
    stages = [module for module in net.modules() if isinstance(module, SARStage)]
    parts: dict[str, list[nn.Module]] = defaultdict(list)
    parts["stem"] = [net.conv1, net.bn1, net.maxpool]
    for module in net.children():
        if isinstance(module, PolicyNetwork):
            parts["policy network"].append(module)
    for stage in stages:
        parts["base branch"] += [stage.base_pool, *stage.base]
        parts["selectors"] += stage.selectors
        parts["projection shortcuts"] += [
            block.downsample for block in stage.refinement if block.downsample is not None
        ]
        parts["fusion"].append(stage.fusion)
        parts["transition"].append(stage.transition)
    parts["refinement"] = list(stages)
    for name, module in net.named_children():
        if name.startswith("layer") and module not in stages:
            parts[name].append(module)
    return {name: modules for name, modules in parts.items() if modules}


def _as_shares(seconds: dict[str, float]) -> dict[str, float]:
    """Takes the parts of SAR stages out of the stages, and all parts out of the total."""
    inside = ("base branch", "selectors", "projection shortcuts", "fusion", "transition")
    if "refinement" in seconds:
        seconds["refinement"] -= sum(seconds[name] for name in inside)
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
