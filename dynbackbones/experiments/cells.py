"""Cells of a table of experiments: made once, resumed where they stopped, never mixed up."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dynbackbones.errors import UserError

_CELL = "cell.json"
_TRAIN = """
from dynbackbones.cli.main import main
main("train")
"""


def train_in_a_process(config: str, arguments: Sequence[str], folder: Path) -> None:
    """Trains as ``dynbackbones train`` does, in a process of its own.

    Args:
        config: file.
        arguments: of the command beside it.
        folder: for the output.

    Raises:
        UserError: the training failed.
    """
    log = folder / "output.txt"
    with open(log, "a", encoding="utf-8") as file:
        command = [sys.executable, "-c", _TRAIN, config, *arguments]
        code = subprocess.run(command, stdout=file, stderr=file, check=False).returncode
    if code:
        raise UserError(
            f"training of cell {folder} ended with exit code {code}{_reason(log)}; see {log}, then "
            "run the same command again"
        )


def _reason(log: Path) -> str:
    """The error in the last line of a training's output, if it is one of the user's."""
    last = (log.read_text(encoding="utf-8", errors="replace").splitlines() or [""])[-1]
    return f" ({last.removeprefix('error: ')})" if last.startswith("error: ") else ""


def trained_results(folder: Path) -> dict[str, Any]:
    """What a training left in its work dir: its last ``checkpoint`` and its ``metrics``."""
    checkpoint = (folder / "last_checkpoint").read_text(encoding="utf-8").strip()
    metrics = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {"checkpoint": checkpoint, "metrics": metrics}


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
    settings, file = settings_of(cfg), folder / _CELL
    if is_made(folder):
        cell = json.loads(file.read_text(encoding="utf-8"))
        if cell["settings"] != settings:
            raise UserError(
                f"cell {folder} was made with other settings; name another folder with "
                "--work-dir, or delete it"
            )
        return cell
    folder.mkdir(parents=True, exist_ok=True)
    if title:
        print(title, flush=True)
    clock = Clock()
    content = make()
    cell = {"settings": settings, **clock.read(), **content}
    part = folder / f"{_CELL}.part"
    part.write_text(json.dumps(cell, indent=1) + "\n", encoding="utf-8")
    part.replace(file)
    return cell
