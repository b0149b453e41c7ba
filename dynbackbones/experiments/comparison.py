"""Variants of one training, side by side over several seeds.

A config for this is a config for training with, in addition,

variants          name -> overrides of the config, as ``--cfg-options`` writes them; the others are
                  compared with the first
variant_metrics   names of the metrics to show; the comparison is of the first

Each variant and seed is a cell; see `cells`.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dynbackbones.errors import UserError
from dynbackbones.experiments.cells import is_made
from dynbackbones.experiments.table import Table, heading, row, spread
from dynbackbones.integrations.openmmlab import checks

_KEYS = ("variants", "variant_metrics")
Results = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Variant to seed to cell."""


@dataclass(frozen=True)
class Comparison:
    """What the cells of a table are trained as.

    Attributes:
        cfg: what the variants have in common.
        variants: name to overrides of it.
        metrics: names in ``results.json``.
        table: where the cells are.
    """

    cfg: Config
    variants: Mapping[str, Mapping[str, Any]]
    metrics: Sequence[str]
    table: Table

    @classmethod
    def from_file(
        cls, path: str | os.PathLike, options: Mapping[str, Any], table: Table
    ) -> Comparison:
        """Reads a config.

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
        cfg.merge_from_dict(dict(options))
        return cls(cfg, variants, metrics, table)

    def fill(self, seeds: Sequence[int], names: Sequence[str] = ()) -> None:
        """Trains what is not there yet, and writes the table after each cell.

        Args:
            seeds: of every variant.
            names: of variants; by default all of them.

        Raises:
            UserError: a variant is unknown or lacks what it starts from, and nothing was trained;
                or a training failed.
        """
        names = names or list(self.variants)
        for name in names:
            self.check_name(name)
            if not all(is_made(self.table.folder(seed, _folder_name(name))) for seed in seeds):
                self.check_inputs(name)
        results: dict[str, dict[int, dict]] = {name: {} for name in names}
        cells = [(seed, name) for seed in seeds for name in names]
        for number, (seed, name) in enumerate(cells, start=1):
            print(f"cell {number} of {len(cells)}: {name}, seed {seed}", flush=True)
            results[name][seed] = self.run(name, seed)
            self.write(results)

    def check_name(self, name: str) -> None:
        """Raises a UserError unless there is such a variant."""
        if name not in self.variants:
            raise UserError(
                f"variant {name!r} is not in the config; it has {', '.join(self.variants)}"
            )

    def check_inputs(self, name: str) -> None:
        """Looks for what a variant starts from, before any is trained.

        Raises:
            UserError: a dataset or file is missing.
        """
        cfg = self.cfg_of(name, seed=0)
        checks.check_datasets(cfg, ("train_dataloader", "val_dataloader"))
        checks.check_generators(cfg)
        start = cfg.get("load_from")
        if start and "://" not in start and not Path(start).is_file():
            raise UserError(
                f"variant {name!r} starts from load_from={start}, which does not exist; train that "
                "first"
            )

    def run(self, name: str, seed: int) -> dict[str, Any]:
        """The cell of a variant and a seed; see `Table.trained`."""
        return self.table.trained(seed, _folder_name(name), self.cfg_of(name, seed))

    def cfg_of(self, name: str, seed: int) -> Config:
        """The config of a cell."""
        cfg = Config(self.cfg.to_dict())
        # A copy, as merging takes `_delete_` out of what it merges.
        cfg.merge_from_dict({**copy.deepcopy(self.variants[name]), "randomness.seed": seed})
        return cfg

    def write(self, results: Results) -> None:
        """Writes what there is so far."""
        content = {"metrics": list(self.metrics), "results": results}
        self.table.write(content, _markdown(results, self.metrics))


def _folder_name(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-")


def _markdown(results: Results, metrics: Sequence[str]) -> Iterator[str]:
    """Mean and standard deviation over the seeds; differences are paired by seed."""
    reference, first = next(iter(results)), metrics[0]
    yield from heading(["variant", *metrics, f"{first} minus {reference}", "seeds"])
    for name, cells in results.items():
        if not cells:
            continue
        columns = [_column(cells.values(), metric) for metric in metrics]
        pairs = [
            cells[seed]["metrics"][first] - results[reference][seed]["metrics"][first]
            for seed in cells
            if seed in results[reference]
        ]
        difference = spread(pairs, 2) if pairs and name != reference else ""
        yield row([name, *columns, difference, str(len(cells))])
    yield ""
    done = [cell for cells in results.values() for cell in cells.values()]
    minutes = sum(cell["cpu_seconds"] for cell in done) / 60
    yield f"{len(done)} trainings, {minutes:.0f} minutes of processor time."


def _column(cells: Iterable[Mapping[str, Any]], metric: str) -> str:
    # A network without decisions has no activation rate.
    values = [cell["metrics"][metric] for cell in cells if metric in cell["metrics"]]
    digits = 2 if values and max(map(abs, values)) >= 10 else 4
    return spread(values, digits) if values else ""
