"""A table of trainings over several seeds: its cells' folders, and its two files."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dynbackbones.experiments.cells import made_once, train_in_a_process, trained_results


@dataclass(frozen=True)
class Table:
    """Where the cells are, and what trains them.

    Attributes:
        work_dir: of all cells.
        train: what trains a cell; see `train_in_a_process`.
        imports: the user's own modules, which every training imports.
        threads: of other processes than ``train`` starts; by default what the environment says.
    """

    work_dir: Path
    train: Callable[[str, Sequence[str], Path], float | None] = train_in_a_process
    imports: Sequence[str] = ()
    threads: int | None = None

    def folder(self, seed: int, name: str) -> Path:
        """Of a cell."""
        return self.work_dir / f"seed{seed}" / name

    def trained(
        self,
        seed: int,
        name: str,
        cfg: Config,
        source: tuple[str, Sequence[str]] | None = None,
        title: str = "",
    ) -> dict[str, Any]:
        """Trains a cell unless that is done, and returns its checkpoint, metrics and times.

        Args:
            seed, name: of the cell.
            cfg: everything that the training depends on.
            source: config file and ``KEY=VALUE`` overrides that make up ``cfg``; by default it is
                written into the cell's folder.
            title: printed before the training, if there is any.

        Raises:
            UserError: the cell was made with other settings, or its training failed.
        """
        folder = self.folder(seed, name)
        return made_once(folder, cfg, lambda: self.train_cell(folder, cfg, source), title)

    def train_cell(
        self, folder: Path, cfg: Config, source: tuple[str, Sequence[str]] | None = None
    ) -> dict[str, Any]:
        """Trains, or continues to; see `trained`."""
        file, options = source or (os.fspath(folder / "cell.py"), ())
        if source is None:
            # Values such as tuples do not survive a command line.
            cfg.dump(file)
        arguments = ["--work-dir", os.fspath(folder), "--resume", *self.import_words()]
        arguments += ["--cfg-options", *options] if options else []
        seconds = self.train(file, arguments, folder)
        used = {} if seconds is None else {"cpu_seconds": seconds}
        return {**trained_results(folder), **used}

    def import_words(self) -> list[str]:
        """The user's modules, as every command is told of them."""
        return [word for module in self.imports for word in ("--import", module)]

    def write(self, content: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Writes what there is so far, as ``table.json`` and ``table.md``."""
        (self.work_dir / "table.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        (self.work_dir / "table.md").write_text("\n".join(lines) + "\n", "utf-8")

    def text(self) -> str:
        """What was written last, for people."""
        return (self.work_dir / "table.md").read_text("utf-8")


def heading(columns: Sequence[str]) -> Iterator[str]:
    """The first two lines of a Markdown table."""
    yield row(columns)
    yield "|---" * len(columns) + "|"


def row(columns: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(columns)} |"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and sample standard deviation, as text; of one value there is none."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def each(values: Iterable[float], digits: int = 1, by: float = 1) -> str:
    """The values of all seeds, times ``by``, as text."""
    return " / ".join(f"{by * value:.{digits}f}" for value in values)
