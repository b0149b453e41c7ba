"""What a person reads of a run: its first words, a line per log step, a table, its files."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.training.results import RESULTS, TEST_RESULTS
from dynbackbones.training.run_folder import FINAL_WEIGHTS

WIDTH = 160
"""Columns that a line of progress fits into."""

_FILES = (FINAL_WEIGHTS, RESULTS, TEST_RESULTS, "config.yaml")


def heading(
    model: nn.Module,
    data: str,
    engine: str,
    *,
    name: str = "",
    trains: bool = True,
    done: int = 0,
) -> str:
    """First lines of a run: what runs on what, and what its backbones decide.

    Args:
        model: any model.
        data: its dataset, see `counted`.
        engine: who does the work, such as ``"torchvision engine"``.
        name: of the model; by default its class's.
        trains: whether the run trains; else it evaluates.
        done: iterations before it, if it continues another.
    """
    backbones = find_backbones(model)
    titles = " and ".join(backbone.title for backbone in backbones)
    name = name or type(model).__name__
    what = f"{name} with {titles}" if titles else name
    lines = [f"{'' if trains else 'evaluates '}{what} on {data}, {engine}, {_devices(model)}"]
    for backbone in backbones if trains else ():
        if isinstance(backbone, DynamicBackbone):
            given = backbone.selection is not None
            aim = "nothing, its selection is given" if given else backbone.aim()
            lines += [f"decides: {aim}"] if aim else []
    if done:
        lines.append(f"continues after {done} iterations")
    return "\n".join(lines)


def counted(name: str, images: int | None) -> str:
    """A dataset and how large it is, if that is known: ``digits_train (500 images)``."""
    return name if images is None else f"{name} ({images} images)"


def _devices(model: nn.Module) -> str:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if device.type == "cuda":
        text = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        text = f"{device.type.upper()}, {threads} thread{'s' if threads > 1 else ''}"
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        text += f", {torch.distributed.get_world_size()} processes"
    return text


def progress(step: str, eta: float | None, values: Mapping[str, float]) -> str:
    """A line of progress, at most `WIDTH` columns wide.

    Args:
        step: such as ``"iter 20/60"``.
        eta: seconds that are left, if known.
        values: what to show after it: ``time`` (seconds per iteration), ``loss`` and its parts,
            whose names have "loss" in them, then the others, the MACs and the rate first. Parts of
            the loss, and the others behind these two, are left out where there is no room.
    """
    values = dict(values)
    first = [step]
    if eta is not None:
        first.append(f"eta {duration(eta)}")
    if "time" in values:
        first.append(f"{values.pop('time'):.3g} s/iter")
    parts = {name: value for name, value in values.items() if "loss" in name}
    rest = [f"{name} {value:.4g}" for name, value in values.items() if name not in parts]
    loss = [f"loss {parts.pop('loss'):.4g}"] if "loss" in parts else []
    room = WIDTH - len("  ".join([*first, *loss, *rest[:2]])) - len(" ()")
    names = [f"{name.replace('loss_', '', 1)} {value:.4g}" for name, value in parts.items()]
    shown = _fitting(names, ", ", room)
    if shown:
        loss = [f"{''.join(loss)} ({shown})".strip()]
    return _fitting([*first, *loss, *rest], "  ", WIDTH)


def _fitting(texts: Iterable[str], separator: str, room: int) -> str:
    """As many of some texts, from the first on, as there is room for."""
    line = ""
    for text in texts:
        longer = f"{line}{separator}{text}" if line else text
        if len(longer) > room:
            break
        line = longer
    return line


def duration(seconds: float) -> str:
    """``1:02:03``."""
    return str(datetime.timedelta(seconds=int(seconds)))


def figure_names(model: nn.Module, *levels: str) -> list[str]:
    """Names of what a model's backbones chose in the last forward.

    Args:
        model: any model.
        levels: those of `Figure` to name, such as ``"image"``.
    """
    found = [b.decisions.figures() for b in find_backbones(model) if b.decisions is not None]
    names = (name for one in found for name, figure in one.items() if figure.level in levels)
    return list(dict.fromkeys(names))


def table(results: Mapping[str, Any]) -> str:
    """Metrics as lines of text, without those of single blocks.

    Args:
        results: name to number, or to such a mapping, as of bounding boxes and of the backbone,
            or of each dataset; None and NaN are shown as ``n/a``.
    """
    if all(isinstance(one, Mapping) for group in results.values() for one in _values(group)):
        return "\n".join(f"{name}\n{table(one)}" for name, one in results.items())
    rows = [(name, value) for name, value in flat(results) if "_block" not in name]
    width = max([22, *(len(name) for name, _ in rows)]) + 2
    return "\n".join(f"{name:<{width}}{_number(value)}" for name, value in rows)


def _values(group: Any) -> Iterable[Any]:
    return group.values() if isinstance(group, Mapping) else (group,)


def flat(results: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """Names and values, also of mappings inside."""
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from flat(value)
        else:
            yield name, value


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "n/a"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def files(folder: str | os.PathLike, log: str | os.PathLike | None = None) -> str:
    """Where a run's results are.

    Args:
        folder: of the run.
        log: its log file.
    """
    folder = Path(folder)
    last = folder / "last_checkpoint"
    checkpoint = Path(last.read_text().strip()).name if last.exists() else ""
    best = sorted(path.name for path in folder.glob("best_*.pth"))
    names = [name for name in (checkpoint, *best, *_FILES) if (folder / name).is_file()]
    if log is not None:
        names.append(f"log {os.path.relpath(log, folder)}")
    events = max(folder.rglob("events.out.tfevents.*"), key=os.path.getmtime, default=None)
    if events is not None:
        names.append(f"TensorBoard {os.path.relpath(events.parent, folder)}")
    return f"files: {folder}\n       {', '.join(dict.fromkeys(names))}"
