"""The metrics of a run's last evaluation, in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dynbackbones.training.results import RESULTS, TEST_RESULTS, write_results


class ResultsHook(Hook):
    """Writes ``results.json`` (validation) and ``test_results.json`` into the work dir.

    Args:
        arrange: makes of the metrics what is written; by default it is them.
        table: makes of that a text for the log; by default there is none.
        validation: name of the file of validations.
    """

    # After the hooks that add metrics.
    priority = "LOWEST"

    def __init__(
        self,
        arrange: Callable[[Mapping[str, float]], Mapping[str, Any]] = dict,
        table: Callable[[Mapping[str, Any]], str] | None = None,
        validation: str = RESULTS,
    ) -> None:
        self._arrange = arrange
        self._table = table
        self._validation = validation

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._write(runner, self._validation, metrics)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._write(runner, TEST_RESULTS, metrics)

    def _write(self, runner: Runner, name: str, metrics: dict[str, float] | None) -> None:
        if not metrics or not is_main_process():
            return
        results = self._arrange(metrics)
        if self._table is not None:
            runner.logger.info(f"evaluation\n{self._table(results)}")
        write_results(results, Path(runner.work_dir) / name)
