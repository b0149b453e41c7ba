"""Cells of a table of experiments: made once, resumed where they stopped, never mixed up."""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dynbackbones.errors import UserError
from dynbackbones.experiments.processes import run_command
from dynbackbones.integrations.mmengine.last_checkpoint import last_checkpoint
from dynbackbones.training.results import read_results

_CELL = "cell.json"


def train_in_a_process(
    config: str, arguments: Sequence[str], folder: Path, *, threads: int | None = None
) -> float:
    """Trains as ``dynbackbones train`` does, in a process of its own.

    Args:
        config: file.
        arguments: of the command beside it.
        folder: for the output.
        threads: of the process; by default what the environment says.

    Returns:
        Seconds of processor time.

    Raises:
        UserError: the training failed.
    """
    return run_command("train", [config, *arguments], folder, threads=threads)


def trained_results(folder: Path) -> dict[str, Any]:
    """What a training left in its work dir: its last ``checkpoint`` and its ``metrics``."""
    checkpoint = (folder / "last_checkpoint").read_text(encoding="utf-8").strip()
    return {"checkpoint": checkpoint, "metrics": read_results(folder)}


def forget_torn_start(folder: Path) -> None:
    """Removes checkpoints that a training cannot continue from, as it was killed at its first."""
    try:
        last_checkpoint(folder, "")
    except UserError:
        for file in (*folder.glob("*.pth"), folder / "last_checkpoint"):
            file.unlink(missing_ok=True)


class Clock:
    """Time since it was made: wall, and processor time of this process and its children."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), self._processor()

    @staticmethod
    def _processor() -> float:
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    def read(self) -> dict[str, float]:
        """``seconds`` and ``cpu_seconds``."""
        return {
            "seconds": round(time.perf_counter() - self._wall, 1),
            "cpu_seconds": round(self._processor() - self._cpu, 1),
        }


def settings_of(cfg: Config) -> str:
    """Digest of everything in a config; tells another table's cells from this one's."""
    text = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_made(folder: Path) -> bool:
    """Whether `made_once` has finished a cell there."""
    return (folder / _CELL).exists()


def read_cell(folder: Path, cfg: Config) -> dict[str, Any] | None:
    """A finished cell; None where there is none, or one of other settings."""
    if not is_made(folder):
        return None
    cell = json.loads((folder / _CELL).read_text(encoding="utf-8"))
    return cell if cell["settings"] == settings_of(cfg) else None


def made_once(
    folder: Path, cfg: Config, make: Callable[[], Mapping[str, Any]], title: str = ""
) -> dict[str, Any]:
    """A cell: its settings, its times and what ``make`` returned, when it was first wanted.

    Args:
        folder: of the cell, written complete or not at all.
        cfg: everything that it depends on.
        make: the work; it continues where it was interrupted.
        title: printed before the work, if there is any.

    Raises:
        UserError: the folder has a cell of other settings.
    """
    cell = read_cell(folder, cfg)
    if cell is not None:
        return cell
    if is_made(folder):
        raise UserError(
            f"cell {folder} was made with other settings; name another folder with "
            "--work-dir, or delete it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if title:
        print(title, flush=True)
    clock = Clock()
    settings = settings_of(cfg)  # before the work, which may change the config
    content = make()
    cell = {"settings": settings, **clock.read(), **content}
    part = folder / f"{_CELL}.part"
    part.write_text(json.dumps(cell, indent=1) + "\n", encoding="utf-8")
    part.replace(folder / _CELL)
    return cell
