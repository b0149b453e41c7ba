"""Variants of one training, side by side over several seeds.

A config for this is a config for training with, in addition,

variants          name -> overrides of the config, as ``--cfg-options`` writes them; the others are
                  compared with the first. What `rows` calls options stands beside the overrides:
                  ``_start_`` (the variant whose trained weights of the same seed it starts from),
                  ``_rates_`` (what the trained network is calibrated to and evaluated at),
                  ``_run_`` (False: only if it is asked for)
variant_metrics   names of the metrics to show; the comparison is of the first. Beside those of
                  ``results.json``: ``object_ratio_STAGE`` of detectors, ``milliseconds``

or, to compare detectors, no config for training but ``detector``, a YAML file, whose keys are then
what variants override.

Each variant and seed is a cell, and each rate one below it; see `cells`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dynbackbones.errors import UserError
from dynbackbones.experiments import comparison_report
from dynbackbones.experiments.cells import (
    forget_torn_start,
    is_made,
    made_once,
    read_cell,
    settings_of,
)
from dynbackbones.experiments.comparison_report import Results
from dynbackbones.experiments.detectors import DetectorTraining
from dynbackbones.experiments.mmengine_models import MmengineTraining
from dynbackbones.experiments.rows import Row, chain, read_rows
from dynbackbones.experiments.scheduling import Durations, Task, run_tasks
from dynbackbones.experiments.table import Table
from dynbackbones.experiments.timing import MILLISECONDS, with_milliseconds
from dynbackbones.experiments.training import Training, ask
from dynbackbones.integrations.mmengine.shared_paths import merge_options
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.integrations.shipped_configs import find_config
from dynbackbones.training.run_lock import locked

_KEYS = ("variants", "variant_metrics")
_DETECTOR = "detector"
_RATIO = "object_ratio_"
CALIBRATED = "model.pth"
"""The calibrated network of a rate, in its folder."""


@dataclass(frozen=True)
class Comparison:
    """What the cells of a table are trained as.

    Attributes:
        training: trains and evaluates them.
        variants: name to overrides and options; see `Row`.
        metrics: names of metrics.
        table: where the cells are.
    """

    training: Training
    variants: Mapping[str, Mapping[str, Any]]
    metrics: Sequence[str]
    table: Table

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike,
        options: Mapping[str, Any],
        table: Table,
        choose_engine: Callable[[], str] = lambda: "torchvision",
    ) -> Comparison:
        """Reads a config.

        Args:
            path: of it.
            options: overrides for all variants.
            table: where the cells are.
            choose_engine: names the engine, if there are detectors.

        Raises:
            UserError: the config cannot be read, or has no variants or metrics.
        """
        cfg = checks.load_config(path)
        for key in _KEYS:
            if not cfg.get(key):
                raise UserError(
                    f"config {path} has no {key}; it needs {' and '.join(_KEYS)} to compare by"
                )
        # Anything else that the config defines may be looked up in a training's config.
        variants, metrics = (cfg.pop(key) for key in _KEYS)
        read_rows(variants)
        if cfg.get(_DETECTOR):
            training: Training = DetectorTraining(
                find_config(cfg[_DETECTOR]),
                choose_engine(),
                dict(options),
                tuple(table.imports),
                table.threads,
            )
        else:
            merge_options(cfg, options, os.fspath(path))
            training = MmengineTraining(cfg, table, table.threads)
        return cls(training, variants, metrics, table)

    @property
    def rows(self) -> dict[str, Row]:
        """The variants, read."""
        return read_rows(self.variants)

    def fill(self, seeds: Sequence[int], names: Sequence[str] = (), jobs: int = 1) -> None:
        """Makes what is not there yet, and writes the table after each cell.

        Args:
            seeds: of every variant.
            names: of variants, to which those are added that they start from; by default all that
                are to be run.
            jobs: cells at a time.

        Raises:
            UserError: a variant is unknown or lacks what it starts from, and nothing was trained;
                or cells failed, and the others were made.
        """
        rows = self.rows
        for name in names:
            self.check_name(name)
        asked = names or [name for name, row in rows.items() if row.run]
        wanted = list(dict.fromkeys(n for name in asked for n in chain(rows, name)))
        for name in wanted:
            if not all(is_made(self._folder(rows[name], seed)) for seed in seeds):
                self.training.check(rows[name])
        with locked(self.table.work_dir):
            self._fill(seeds, wanted, jobs)

    def _fill(self, seeds: Sequence[int], wanted: Sequence[str], jobs: int) -> None:
        rows = self.rows
        tasks = [t for seed in seeds for name in wanted for t in self._tasks(rows[name], seed)]
        failed = run_tasks(
            tasks,
            jobs,
            durations=self._known_durations(),
            after_each=lambda: self.write(self.results(seeds)),
        )
        results = self.results(seeds)
        self.write(results)
        if MILLISECONDS in self.metrics and not failed:
            self.write(self._timed(results))
        if failed:
            raise UserError(
                f"{len(failed)} cells are not there: {failed[0]}; see {self.table.work_dir}"
            )

    def check_name(self, name: str) -> None:
        """Raises a UserError unless there is such a variant."""
        if name not in self.variants:
            raise UserError(
                f"variant {name!r} is not in the config; it has {', '.join(self.variants)}"
            )

    def run(self, name: str, seed: int) -> dict[str, Any]:
        """The cell of a variant and a seed, trained unless that is done.

        Raises:
            UserError: it was made with other settings, or its training failed.
        """
        row = self.rows[name]
        folder, settings = self._folder(row, seed), self._settings(row, seed)

        def make() -> dict[str, Any]:
            start = self.run(row.start, seed)["checkpoint"] if row.start else None
            forget_torn_start(folder)
            content = dict(self.training.train(row, seed, start, folder))
            if "activation_rate" in content["metrics"] and self._wants_ratios:
                ratios, seconds = self._look(row, seed, content["checkpoint"], None, folder)
                content["metrics"] = {**content["metrics"], **ratios}
                content["cpu_seconds"] = content.get("cpu_seconds", 0) + seconds
            return content

        return made_once(folder, settings, make)

    def run_at(self, name: str, seed: int, rate: float) -> dict[str, Any]:
        """The cell of a trained network at another rate, evaluated unless that is done."""
        row = self.rows[name]
        folder = self._folder(row, seed, rate)

        def make() -> dict[str, Any]:
            trained = self.run(name, seed)["checkpoint"]
            ratios, seconds = self._look(row, seed, trained, rate, folder)
            weights = os.fspath(folder / CALIBRATED)
            content = self.training.evaluate(row, seed, weights, folder)
            metrics = {**content["metrics"], **ratios}
            seconds += content["cpu_seconds"]
            return {"checkpoint": weights, "metrics": metrics, "cpu_seconds": seconds}

        return made_once(folder, self._settings(row, seed, rate), make)

    def results(self, seeds: Sequence[int] = ()) -> dict[str, dict[int, dict[str, Any]]]:
        """All finished cells of this table, of these seeds and of others that were made before."""
        folders = self.table.work_dir.glob("seed*")
        found = {int(f.name[4:]) for f in folders if f.name[4:].isdigit()}
        results: dict[str, dict[int, dict[str, Any]]] = {}
        for row in self.rows.values():
            for name, rate in row.entries():
                cells = {}
                for seed in sorted(found | set(seeds)):
                    folder = self._folder(row, seed, rate)
                    if is_made(folder):
                        cells[seed] = read_cell(folder, self._settings(row, seed, rate))
                results[name] = {seed: cell for seed, cell in cells.items() if cell is not None}
        return results

    def write(self, results: Results) -> None:
        """Writes what there is so far."""
        left_out = [row.name for row in self.rows.values() if not row.run]
        comparison_report.write(self.table, results, self.metrics, left_out)

    @property
    def _wants_ratios(self) -> bool:
        return any(metric.startswith(_RATIO) for metric in self.metrics)

    def _folder(self, row: Row, seed: int, rate: float | None = None) -> Path:
        folder = self.table.folder(seed, row.folder)
        return folder if rate is None else folder / f"rate-{rate:g}"

    def _settings(self, row: Row, seed: int, rate: float | None = None) -> Config:
        cfg = self.training.settings(row, seed)
        if row.start is not None:
            cfg["_start_"] = settings_of(self._settings(self.rows[row.start], seed))
        return cfg if rate is None else Config({"trained": settings_of(cfg), "rate": rate})

    def _tasks(self, row: Row, seed: int) -> Iterator[Task]:
        """What is not made of a row; the first is its training."""
        title, key = f"{row.name}, seed {seed}", (seed, row.name)
        after = None if row.start is None else (seed, row.start)
        if not is_made(self._folder(row, seed)):
            work = lambda: self.run(row.name, seed)  # noqa: E731
            yield Task(key, title, row.name, work, after)
        else:
            self.run(row.name, seed)  # complains if it is another table's
        for rate in row.rates:
            if not is_made(self._folder(row, seed, rate)):
                name = row.at(rate)
                work = lambda rate=rate: self.run_at(row.name, seed, rate)  # noqa: E731
                yield Task((seed, name), f"{name}, seed {seed}", name, work, key)

    def _known_durations(self) -> Durations:
        known = Durations()
        for name, cells in self.results().items():
            for cell in cells.values():
                known.add(name, cell["seconds"])
        return known

    def _look(
        self, row: Row, seed: int, weights: str, rate: float | None, folder: Path
    ) -> tuple[dict[str, Any], float]:
        """Calibrates to a rate, if one is given; object ratios, and seconds of processor time."""
        ratios = folder / "object_ratios.json"
        job = {
            "trained": self.training.trained(row, seed, weights, folder),
            "rate": rate,
            "weights": os.fspath(folder / CALIBRATED),
            "ratios": os.fspath(ratios) if self._wants_ratios else None,
        }
        seconds = ask("look", job, folder, self.table.threads)
        found = json.loads(ratios.read_text(encoding="utf-8")) if self._wants_ratios else {}
        return found, seconds

    def _timed(self, results: Results) -> Results:
        """With the milliseconds of the first seed's networks."""
        networks, digests = {}, {}
        for row in self.rows.values():
            for name, rate in row.entries():
                for seed, cell in list(results[name].items())[:1]:
                    folder = self._folder(row, seed, rate)
                    networks[name] = self.training.trained(row, seed, cell["checkpoint"], folder)
                    digests[name] = cell["settings"]
        return with_milliseconds(results, self.table.work_dir / "latency", networks, digests)
