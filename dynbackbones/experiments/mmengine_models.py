"""Models of mmengine's configs (mmseg, mmpretrain, mmdet) as rows of a comparison."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from dynbackbones import checkpoints
from dynbackbones.analysis.candidates import backbone_of
from dynbackbones.errors import UserError
from dynbackbones.experiments.processes import run_command
from dynbackbones.experiments.rows import Row
from dynbackbones.experiments.table import Table
from dynbackbones.experiments.training import Trained, flat_metrics, spread_over
from dynbackbones.integrations.attach import attach
from dynbackbones.integrations.mmengine.checked_data import build_dataset
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.training.results import TEST_RESULTS, read_results

_CONFIG = "cell.py"


@dataclass(frozen=True)
class MmengineTraining:
    """Trains and evaluates as ``dynbackbones train`` and ``test`` do.

    Attributes:
        cfg: what the rows have in common.
        table: where the cells are, and what trains them.
        threads: of each process.
    """

    cfg: Config
    table: Table
    threads: int | None = None

    def settings(self, row: Row, seed: int) -> Config:
        cfg = Config(self.cfg.to_dict())
        # A copy, as merging takes `_delete_` out of what it merges.
        cfg.merge_from_dict({**copy.deepcopy(dict(row.overrides)), "randomness.seed": seed})
        return cfg

    def check(self, row: Row) -> None:
        cfg = self.settings(row, seed=0)
        checks.check_datasets(cfg, ("train_dataloader", "val_dataloader"))
        checks.check_generators(cfg)
        start = cfg.get("load_from")
        if start and "://" not in start and not Path(start).is_file():
            raise UserError(
                f"variant {row.name!r} starts from load_from={start}, which does not exist; train "
                "that first"
            )

    def train(self, row: Row, seed: int, start: str | None, folder: Path) -> Mapping[str, Any]:
        cfg = self.settings(row, seed)
        if start is not None:
            cfg.load_from = start
        return self.table.train_cell(folder, cfg)

    def evaluate(self, row: Row, seed: int, weights: str, folder: Path) -> Mapping[str, Any]:
        cfg = self.settings(row, seed)
        # What is validated on after training, whatever the config tests on.
        cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
        cfg.setdefault("test_cfg", {})
        file = os.fspath(folder / _CONFIG)
        cfg.dump(file)
        words = [file, weights, "--work-dir", os.fspath(folder), *self.table.import_words()]
        seconds = run_command("test", words, folder, threads=self.threads)
        metrics = flat_metrics(read_results(folder, TEST_RESULTS))
        return {"metrics": metrics, "cpu_seconds": seconds}

    def trained(self, row: Row, seed: int, weights: str, folder: Path) -> Trained:
        file = folder / f"trained_{_CONFIG}"
        self.settings(row, seed).dump(file)
        imports = tuple(self.table.imports)
        return Trained("mmengine", os.fspath(file), weights, imports=imports)


class MmengineNetwork:
    """A trained model of a config.

    Args:
        trained: its config and weights.
    """

    def __init__(self, trained: Trained) -> None:
        self._cfg = checks.load_config(trained.config)
        self._model = checks.build_model(self._cfg).eval()
        state = checkpoints.state_dict_of(checkpoints.load(trained.weights), trained.weights)
        self._model.load_state_dict(state)
        attach(self._model)  # it learns where images end
        if torch.cuda.is_available():
            self._model.cuda()
        self.backbone = backbone_of(self._model)

    def runs(self, count: int, *, training: bool = False) -> list[Callable[[], object]]:
        dataset = build_dataset(self._dataset(training))
        batches = [pseudo_collate([dataset[index]]) for index in spread_over(len(dataset), count)]
        return [lambda batch=batch: self._model.test_step(batch) for batch in batches]

    def save(self, path: Path) -> None:
        # Under the key that mmengine looks for.
        checkpoints.save(path, self._model.state_dict(), {}, "state_dict")

    def object_ratios(self) -> Mapping[str, float | None]:
        return {}

    def _dataset(self, training: bool) -> dict[str, Any]:
        """That of evaluation, or the images of the training set prepared in the same way."""
        (evaluation, *_) = checks.datasets_in(self._cfg.val_dataloader.dataset)
        if not training:
            return copy.deepcopy(dict(evaluation))
        (dataset, *_) = checks.datasets_in(self._cfg.train_dataloader.dataset)
        prepared = {key: evaluation[key] for key in ("pipeline", "test_mode") if key in evaluation}
        return copy.deepcopy({**dataset, **prepared})
