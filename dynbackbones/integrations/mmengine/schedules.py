"""The schedules of backbones (temperature, target rate, curriculum) in runs of mmengine's."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from dynbackbones.integrations.mmengine.runner import dynamic_backbones


class ScheduleHook(Hook):
    """Moves the schedules of a run's backbones to the share of training done.

    Args:
        by_epoch: once per epoch instead of every iteration.
    """

    def __init__(self, by_epoch: bool = False) -> None:
        self.by_epoch = by_epoch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        done = runner.epoch / runner.max_epochs if self.by_epoch else runner.iter / runner.max_iters
        self._move(runner, min(done, 1.0))

    def after_train(self, runner: Runner) -> None:
        self._move(runner, 1.0)

    @staticmethod
    def _move(runner: Runner, fraction: float) -> None:
        for backbone in dynamic_backbones(runner):
            backbone.set_progress(fraction)
