"""Milliseconds to a rate: what a dynamic network takes on this machine, measured once and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.backbones.timing import milliseconds_of
from dynbackbones.checkpoints.whole_file import write_json
from dynbackbones.kernels.tiles import cache_folder

RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
ROUNDS = 7
"""Of forward passes at each of the rates; the first is not measured."""


class ReachedTime(NamedTuple):
    """What calibrating to a time reached.

    Attributes:
        rate: mean activation rate or block usage.
        p50_ms: median milliseconds of a forward pass for an image.
        p95_ms: what 95 of 100 forward passes stay below.
    """

    rate: float
    p50_ms: float
    p95_ms: float


class TimeTable(NamedTuple):
    """Milliseconds of a forward pass for an image at some rates.

    Attributes:
        rates: ascending, from 0 to 1.
        milliseconds: never falling.
    """

    rates: tuple[float, ...]
    milliseconds: tuple[float, ...]

    @classmethod
    def of(cls, rates: Sequence[float], medians: Sequence[float]) -> TimeTable:
        """From measured medians, in which a busy machine may have made a higher rate look faster.

        Args:
            rates: ascending.
            medians: milliseconds.
        """
        return cls(tuple(rates), tuple(max(medians[: i + 1]) for i in range(len(medians))))

    def rate_for(self, milliseconds: float) -> float:
        """The highest rate that takes no longer, between the measured ones on a line."""
        if milliseconds <= self.milliseconds[0]:
            return self.rates[0]
        rate = self.rates[0]
        for index in range(1, len(self.rates)):
            low, high = self.milliseconds[index - 1 : index + 1]
            if milliseconds >= high:
                rate = self.rates[index]
                continue
            part = (milliseconds - low) / (high - low)
            step = self.rates[index] - self.rates[index - 1]
            return self.rates[index - 1] + part * step
        return rate


def time_table(net: DynamicBackbone, images: Sequence[Tensor]) -> TimeTable:
    """The table of a network for images like these, from the cache if this machine has measured it.

    Args:
        net: in evaluation mode, as it will run: packed or not, on its device.
        images: (1, in_channels, H, W) each.
    """
    file = cache_folder() / "times" / f"{_key(net, images[0])}.json"
    known = _read(file)
    if known is None:
        known = _measured(net, images)
        write_json(file, {"network": net.title, **known._asdict()})
        logging.getLogger("dynbackbones").info(f"times of {net.title} are in {file}")
    return known


def measure_time(net: DynamicBackbone, images: Sequence[Tensor]) -> tuple[float, float]:
    """Median and 95th percentile of the milliseconds of forward passes, each image several times.

    Args:
        net: in evaluation mode.
        images: (1, in_channels, H, W) each.
    """
    rounds = max(3, -(-20 // len(images)))
    milliseconds_of(net, images[0])
    times = [milliseconds_of(net, image) for _ in range(rounds) for image in images]
    return statistics.median(times), statistics.quantiles(times, n=20, method="inclusive")[-1]


def _measured(net: DynamicBackbone, images: Sequence[Tensor]) -> TimeTable:
    """Rates in turns, so that a busy machine hits all alike."""
    times: dict[float, list[float]] = {rate: [] for rate in RATES}
    for turn in range(ROUNDS):
        image = images[turn % len(images)]
        for rate in RATES:
            # Chosen at random; which blocks they are matters little in the median of rounds.
            with net.select("random", rate=rate, seed=turn):
                times[rate].append(milliseconds_of(net, image))
    return TimeTable.of(RATES, [statistics.median(values[1:]) for values in times.values()])


def _read(file: Path) -> TimeTable | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return TimeTable.of(content["rates"], content["milliseconds"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        logging.getLogger("dynbackbones").warning(f"{file} is measured anew: {error}")
        return None


def _key(net: DynamicBackbone, image: Tensor) -> str:
    """What a time depends on, in a short word."""
    modules = sorted({type(module).__qualname__ for module in net.modules()})
    shapes = [(name, tuple(value.shape)) for name, value in net.state_dict().items()]
    machine = _processor(), torch.get_num_threads(), torch.__version__
    if image.device.type == "cuda":
        machine = (torch.cuda.get_device_name(image.device), torch.__version__)
    kind, cast = image.device.type, None
    if torch.is_autocast_enabled(kind):
        cast = str(torch.get_autocast_dtype(kind))
    native = any(getattr(module, "native_rows", None) is not None for module in net.modules())
    how = net.execution, str(image.dtype), cast, native, tuple(image.shape), image.stride()
    described = repr((type(net).__qualname__, modules, shapes, how, machine))
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
