"""The kernels of chosen contestants: which take the time, and one forward pass in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tests.gpu.contestants import Contestant, one_line

PASSES = 3
TOP = 25


def write(contestants: Sequence[Contestant], file: Path, rate: float = 0.5) -> None:
    """Profiles plain and dynamic networks, compiled and through cuDNN's fused operators."""
    wanted = ("compiled", "fused graph", "fused compiled")
    parts = []
    for one in contestants:
        near = one.rate is None or abs(one.rate - rate) < 0.1
        if not one.error and one.treatment in wanted and near:
            try:
                parts.append(_described(one))
            except Exception as error:  # the others go on
                parts.append(f"{one.label}: {one_line(error)}\n")
    file.write_text("\n".join(parts), encoding="utf-8")


def _described(one: Contestant) -> str:
    on_gpu = torch.cuda.is_available()
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with one.context(), profile(activities=[activity]) as profiler:
        for _ in range(PASSES):
            one.run()
        if on_gpu:
            torch.cuda.synchronize()
    device = DeviceType.CUDA if on_gpu else DeviceType.CPU
    events = [event for event in profiler.events() if event.device_type == device]
    events.sort(key=lambda event: event.time_range.start)
    return f"## {one.label}, rate {one.rate}\n\n{_by_name(events)}\n\n{_in_order(events)}\n"


def _by_name(events: list) -> str:
    times, counts = defaultdict(float), defaultdict(int)
    for event in events:
        times[event.name] += event.time_range.elapsed_us() / PASSES
        counts[event.name] += 1
    total = sum(times.values()) or 1.0
    lines = [f"{total:.0f} us a pass in {len(events) / PASSES:.0f} kernels"]
    for name in sorted(times, key=times.get, reverse=True)[:TOP]:
        share = 100 * times[name] / total
        lines.append(
            f"{times[name]:10.1f} us {share:5.1f} % {counts[name] / PASSES:6.1f}x {name[:140]}"
        )
    return "\n".join(lines)


def _in_order(events: list) -> str:
    """The last pass, kernel by kernel, with the time since its start."""
    last = events[len(events) - len(events) // PASSES :]
    if not last:
        return "no kernels"
    start = last[0].time_range.start
    return "in order: at us, us, kernel\n" + "\n".join(
        f"{event.time_range.start - start:10.1f} {event.time_range.elapsed_us():8.1f} "
        f"{event.name[:120]}"
        for event in last
    )
