"""Detectors of a YAML config as rows of a comparison, in either engine."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dynbackbones import checkpoints
from dynbackbones.analysis.survey import CocoSamples, survey
from dynbackbones.backbones.base import Backbone, find_backbones
from dynbackbones.data import coco
from dynbackbones.experiments.processes import run_command
from dynbackbones.experiments.rows import Row
from dynbackbones.experiments.training import Trained, flat_metrics, spread_over
from dynbackbones.integrations.config import num_classes
from dynbackbones.integrations.datasets import find_dataset
from dynbackbones.integrations.engine import import_engine
from dynbackbones.integrations.yaml_files import written_keys
from dynbackbones.training.results import RESULTS, TEST_RESULTS, read_results
from dynbackbones.training.run_folder import FINAL_WEIGHTS

_PLACES = ("OUTPUT_DIR",)


@dataclass(frozen=True)
class DetectorTraining:
    """Trains and evaluates as ``dynbackbones train-net`` does.

    Attributes:
        config: YAML file.
        engine: see `ENGINES`.
        options: key to value, overrides of all rows.
        imports: the user's own modules.
        threads: of each process.
    """

    config: str
    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    threads: int | None = None

    def settings(self, row: Row, seed: int) -> Config:
        """What the YAML and the overrides say: new keys' defaults leave old cells what they are."""
        written = {**written_keys(self.config), **self._overrides(row, seed)}
        return Config({"engine": self.engine, "detector": _without_places(written)})

    def check(self, row: Row) -> None:
        cfg = import_engine(self.engine).setup(self.config, self._options(row, 0))
        if self.engine == "torchvision":  # detectron2 has catalogs of its own
            for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
                coco.check(find_dataset(cfg, name), num_classes(cfg))
        start = self._overrides(row, 0).get("MODEL.WEIGHTS")
        if start and "://" not in start:
            checkpoints.load(start)

    def train(self, row: Row, seed: int, start: str | None, folder: Path) -> Mapping[str, Any]:
        weights = ["MODEL.WEIGHTS", start] if start else []
        words = ["--resume", *self._run(row, seed), *weights, "OUTPUT_DIR", os.fspath(folder)]
        seconds = run_command("train-net", self._words(words), folder, threads=self.threads)
        weights = os.fspath(folder / FINAL_WEIGHTS)
        return {"checkpoint": weights, "metrics": _metrics(folder), "cpu_seconds": seconds}

    def evaluate(self, row: Row, seed: int, weights: str, folder: Path) -> Mapping[str, Any]:
        words = ["--eval-only", *self._run(row, seed)]
        words += ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", os.fspath(folder)]
        seconds = run_command("train-net", self._words(words), folder, threads=self.threads)
        return {"metrics": _metrics(folder, TEST_RESULTS), "cpu_seconds": seconds}

    def trained(self, row: Row, seed: int, weights: str, folder: Path) -> Trained:
        options = tuple(self._options(row, seed))
        return Trained("detector", self.config, weights, options, self.engine, self.imports)

    def _overrides(self, row: Row, seed: int) -> dict[str, Any]:
        return {**self.options, **row.overrides, "SEED": seed}

    def _options(self, row: Row, seed: int) -> list[str]:
        # As literals, since `merge_from_list` reads them as such.
        items = self._overrides(row, seed).items()
        return [word for key, value in items for word in (key, repr(_plain(value)))]

    def _run(self, row: Row, seed: int) -> list[str]:
        return ["--config-file", self.config, "--engine", self.engine, *self._options(row, seed)]

    def _words(self, words: list[str]) -> list[str]:
        return [*(word for name in self.imports for word in ("--import", name)), *words]


class DetectorNetwork:
    """A trained detector.

    Args:
        trained: its config, options, engine and weights.
    """

    def __init__(self, trained: Trained) -> None:
        adapter = import_engine(trained.engine)
        options = [*trained.options, "MODEL.WEIGHTS", trained.weights]
        self._cfg = adapter.setup(trained.config, options)
        self._predictor = adapter.load_predictor(self._cfg)
        backbones = find_backbones(self._predictor.model)
        self.backbone: Backbone | None = backbones[0] if backbones else None

    def runs(self, count: int, *, training: bool = False) -> list[Callable[[], object]]:
        pixels = self._samples(training).pixels
        images = [pixels[index] for index in spread_over(len(pixels), count)]
        return [lambda image=image: self._predictor.predict(image) for image in images]

    def save(self, path: Path) -> None:
        meta = checkpoints.load(self._cfg.MODEL.WEIGHTS).get("meta")
        kept = dict(meta) if isinstance(meta, Mapping) else {}
        checkpoints.save(path, self._predictor.model.state_dict(), kept)

    def object_ratios(self) -> Mapping[str, float | None]:
        result = survey(self._predictor, self._samples(training=False), num_rows=0)
        ratios = {
            f"object_ratio_{stage}": counts.preference
            for stage, counts in result.coverage.stages.items()
        }
        return {name: None if math.isnan(value) else value for name, value in ratios.items()}

    def _samples(self, training: bool) -> CocoSamples:
        names = self._cfg.DATASETS.TRAIN if training else self._cfg.DATASETS.TEST
        source = find_dataset(self._cfg, names[0])
        return CocoSamples(source, coco.check(source, num_classes(self._cfg)))


def _metrics(folder: Path, name: str = RESULTS) -> dict[str, float]:
    return flat_metrics(read_results(folder, name))


def _without_places(written: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in written.items() if key not in _PLACES}


def _plain(value: Any) -> Any:
    """Lists and dicts of mmengine's as Python's own."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value
