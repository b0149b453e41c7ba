"""The schedules of backbones (temperature, target rate, curriculum) in runs of mmengine's."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dynbackbones.integrations.mmengine.runner import unwrap_model
from dynbackbones.training.loop import set_progress


@HOOKS.register_module()
class ScheduleHook(Hook):
    """Moves the schedules of a run's backbones to the share of training done.

    Args:
        by_epoch: once per epoch instead of every iteration.
    """

    def __init__(self, by_epoch: bool = False) -> None:
        self.by_epoch = by_epoch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        done = runner.epoch / runner.max_epochs if self.by_epoch else runner.iter / runner.max_iters
        set_progress(unwrap_model(runner), done)

    def after_train(self, runner: Runner) -> None:
        set_progress(unwrap_model(runner), 1.0)
