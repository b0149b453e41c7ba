"""The metrics of a run's last evaluation, in a file."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dynbackbones.training.results import write_results


class ResultsHook(Hook):
    """Writes ``results.json`` (validation) and ``test_results.json`` into the work dir."""

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._write(runner, "results.json", metrics)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._write(runner, "test_results.json", metrics)

    @staticmethod
    def _write(runner: Runner, name: str, metrics: dict[str, float] | None) -> None:
        if metrics and is_main_process():
            write_results(metrics, Path(runner.work_dir) / name)
