"""What the cells of a comparison ask of a kind of training, and of what was trained."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from mmengine.config import Config

from dynbackbones.backbones.base import Backbone
from dynbackbones.experiments.processes import run_script
from dynbackbones.experiments.rows import Row

_HELPER = """
from dynbackbones.cli.running import run
from dynbackbones.experiments import trained_networks
run(trained_networks.main)
"""


@dataclass(frozen=True)
class Trained:
    """A trained network, in words that go to other processes.

    Attributes:
        kind: ``"detector"`` or ``"mmengine"``.
        config: file.
        weights: file.
        options: ``KEY VALUE ...`` overrides, of a detector.
        engine: of a detector.
        imports: the user's own modules.
    """

    kind: str
    config: str
    weights: str
    options: tuple[str, ...] = ()
    engine: str = ""
    imports: tuple[str, ...] = ()


class Training(Protocol):
    """Trains rows in processes of their own."""

    def settings(self, row: Row, seed: int) -> Config:
        """Everything that a training depends on, but for where it starts.

        Raises:
            UserError: an override does not fit.
        """

    def check(self, row: Row) -> None:
        """Looks for what a training needs, before any begins.

        Raises:
            UserError: a dataset or file is missing.
        """

    def train(self, row: Row, seed: int, start: str | None, folder: Path) -> Mapping[str, Any]:
        """Trains, or continues, from the weights in ``start``.

        Returns:
            ``checkpoint``, ``metrics`` and perhaps ``cpu_seconds``.
        """

    def evaluate(self, row: Row, seed: int, weights: str, folder: Path) -> Mapping[str, Any]:
        """Evaluates weights; ``metrics`` under the same names as after training."""

    def trained(self, row: Row, seed: int, weights: str, folder: Path) -> Trained:
        """How another process opens the trained network."""


class Network(Protocol):
    """A trained network that was opened.

    Attributes:
        backbone: the one of this package in it, if any.
    """

    backbone: Backbone | None

    def runs(self, count: int, *, training: bool = False) -> list[Callable[[], object]]:
        """One call for each image, spread over the evaluation (or training) images."""

    def save(self, path: Path) -> None:
        """Writes its weights, as its training does."""

    def object_ratios(self) -> Mapping[str, float | None]:
        """``object_ratio_STAGE``: how much its stages prefer objects, as far as these are known."""


def ask(call: str, job: Mapping[str, Any], folder: Path, threads: int | None) -> float:
    """Has a process of its own do a job of `trained_networks`.

    Args:
        call: name of the job.
        job: its arguments.
        folder: for what it prints.
        threads: of the process.

    Returns:
        Seconds of processor time.
    """
    file = folder / f"{call}.json"
    file.write_text(json.dumps({"call": call, **job}, default=asdict), encoding="utf-8")
    return run_script(_HELPER, [os.fspath(file)], folder, threads=threads)


def flat_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of ``results.json`` without groups: ``bbox/AP``, and of the backbone ``gmacs``."""
    flat: dict[str, float] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            prefix = "" if name == "backbone" else f"{name}/"
            flat |= {f"{prefix}{key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return flat


def spread_over(length: int, count: int) -> Iterable[int]:
    """Indices of ``count`` items of a list, or of all, at equal distances."""
    count = min(length, count)
    return [index * length // count for index in range(count)]
