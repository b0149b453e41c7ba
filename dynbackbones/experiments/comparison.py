"""Variants of one training, side by side over several seeds.

A config for this is a config for training with, in addition,

variants          name -> overrides of the config, as ``--cfg-options`` writes them; the others are
                  compared with the first
variant_metrics   names of the metrics to show; the comparison is of the first

Each variant and seed is a cell; see `cells`.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from dynbackbones.errors import UserError
from dynbackbones.experiments.cells import (
    is_made,
    made_once,
    spread,
    train_in_a_process,
    trained_results,
)
from dynbackbones.integrations.openmmlab import checks

_KEYS = ("variants", "variant_metrics")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fills the cells and writes ``table.json`` and ``table.md`` into the work dir.

    Raises:
        UserError: the input is at fault, or a training failed.
    """
    args = _parser().parse_args(arguments)
    if len(set(args.seeds)) < len(args.seeds):
        raise UserError(f"--seeds must differ from each other, got {args.seeds}")
    work_dir = Path(args.work_dir or Path("work_dirs", Path(args.config).stem))
    comparison = Comparison.from_file(args.config, work_dir, args.cfg_options or {})
    chosen = args.variants or list(comparison.variants)
    for name in chosen:
        comparison.check_name(name)
        if not all(is_made(comparison.folder(name, seed)) for seed in args.seeds):
            comparison.check_inputs(name)
    results: dict[str, dict[int, dict]] = {name: {} for name in chosen}
    total = len(args.seeds) * len(chosen)
    for seed in args.seeds:
        for name in chosen:
            done = sum(map(len, results.values()))
            print(f"cell {done + 1} of {total}: {name}, seed {seed}", flush=True)
            results[name][seed] = comparison.run(name, seed)
            comparison.write(results)
    print((work_dir / "table.md").read_text(encoding="utf-8"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train the variants that a config names with several seeds, and compare them. "
        "Finished cells are not run again; an unfinished one continues from its last checkpoint."
    )
    parser.add_argument("config", help="Python config with variants and variant_metrics")
    parser.add_argument(
        "--work-dir", metavar="FOLDER", help="for all cells; default work_dirs/CONFIG"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="only these")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="overrides for all variants",
    )
    return parser


@dataclass(frozen=True)
class Comparison:
    """Where the cells are, and how they are made.

    Attributes:
        cfg: what the variants have in common.
        variants: name to overrides of it.
        metrics: names in ``results.json``.
        work_dir: of all cells.
        train: what trains a cell; see `train_in_a_process`.
    """

    cfg: Config
    variants: Mapping[str, Mapping[str, Any]]
    metrics: Sequence[str]
    work_dir: Path
    train: Callable[[str, Sequence[str], Path], None] = train_in_a_process

    @classmethod
    def from_file(
        cls, path: str | os.PathLike, work_dir: Path, options: Mapping[str, Any]
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
        return cls(cfg, variants, metrics, work_dir)

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
        """The cell of a variant and a seed, trained unless it is there: checkpoint, metrics, times.

        Raises:
            UserError: the cell was made with other settings, or its training failed.
        """
        cfg = self.cfg_of(name, seed)
        folder = self.folder(name, seed)

        def make() -> dict[str, Any]:
            # Values such as tuples do not survive a command line.
            config = folder / "cell.py"
            cfg.dump(config)
            self.train(os.fspath(config), ["--work-dir", os.fspath(folder), "--resume"], folder)
            return trained_results(folder)

        return made_once(folder, cfg, make)

    def folder(self, name: str, seed: int) -> Path:
        """Of the cell of a variant and a seed."""
        return self.work_dir / f"seed{seed}" / _folder_name(name)

    def cfg_of(self, name: str, seed: int) -> Config:
        """The config of a cell."""
        cfg = Config(self.cfg.to_dict())
        # A copy, as merging takes `_delete_` out of what it merges.
        cfg.merge_from_dict({**copy.deepcopy(self.variants[name]), "randomness.seed": seed})
        return cfg

    def write(self, results: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
        """Writes what there is so far: variant to seed to cell."""
        text = json.dumps({"metrics": list(self.metrics), "results": results}, indent=1)
        (self.work_dir / "table.json").write_text(text + "\n", encoding="utf-8")
        lines = "\n".join(_markdown(results, self.metrics))
        (self.work_dir / "table.md").write_text(lines + "\n", encoding="utf-8")


def _folder_name(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-")


def _markdown(
    results: Mapping[str, Mapping[int, Mapping[str, Any]]], metrics: Sequence[str]
) -> Iterator[str]:
    """Mean and standard deviation over the seeds; differences are paired by seed."""
    reference, first = next(iter(results)), metrics[0]
    yield f"| variant | {' | '.join(metrics)} | {first} minus {reference} | seeds |"
    yield "|---" * (len(metrics) + 3) + "|"
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
        yield f"| {name} | {' | '.join(columns)} | {difference} | {len(cells)} |"
    yield ""
    done = [cell for cells in results.values() for cell in cells.values()]
    minutes = sum(cell["cpu_seconds"] for cell in done) / 60
    yield f"{len(done)} trainings, {minutes:.0f} minutes of processor time."


def _column(cells: Iterator[Mapping[str, Any]], metric: str) -> str:
    # A network without decisions has no activation rate.
    values = [cell["metrics"][metric] for cell in cells if metric in cell["metrics"]]
    digits = 2 if values and max(map(abs, values)) >= 10 else 4
    return spread(values, digits) if values else ""
