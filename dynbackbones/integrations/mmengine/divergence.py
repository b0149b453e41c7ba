"""A training that diverges stops at once, and writes nothing of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dynbackbones.checkpoints.finite import not_finite
from dynbackbones.training.faults import ADVICE, diverged, weights_diverged


def check_losses(runner: Runner, losses: Mapping[str, Any], advice: str = ADVICE) -> None:
    """Makes sure that the losses of an iteration are finite.

    Args:
        runner: after that iteration.
        losses: numbers or tensors of one.
        advice: what to do otherwise.

    Raises:
        UserError: one of them is not.
    """
    values = {name: float(torch.as_tensor(value).detach()) for name, value in losses.items()}
    if not all(map(math.isfinite, values.values())):
        raise diverged(runner.work_dir, runner.iter + 1, values, advice)


@HOOKS.register_module()
class DivergenceHook(Hook):
    """Ends a run at the first loss, or the first weights to be written, that are not finite.

    Several such hooks in a run do no harm.
    """

    # Before checkpoints are written (VERY_LOW); losses become numbers for the log in any case.
    priority = "NORMAL"

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        found = (outputs or {}).items()
        check_losses(runner, {name: value for name, value in found if "loss" in name})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        state = checkpoint["state_dict"]
        names = not_finite(state)
        if names:
            raise weights_diverged(runner.work_dir, checkpoint["meta"]["iter"], names, len(state))
