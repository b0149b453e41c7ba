"""Exact resume for runs of mmengine's, whatever their model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner

from dynbackbones.integrations.mmengine.checkpoint_loader import forget_logs
from dynbackbones.integrations.mmengine.random_states import (
    RandomStates,
    random_state,
    set_random_state,
)
from dynbackbones.integrations.mmengine.run_config import RUN_CONFIG, describe
from dynbackbones.integrations.mmengine.seeded_data import SeededEpochSampler

# How far an epoch was, in samples of all processes: the batch may be divided otherwise later.
_SAMPLES_DONE = "samples_of_epoch"


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Keeps random states in checkpoints, so that a resumed run is the uninterrupted one.

    Checkpoints get the random states of all processes and a description of the run's config, see
    `run_config`, and lose mmengine's log history, whose class only an unsafe loader would accept.
    Samples need seeds of their own too: `SeededSampler` and `SeededDataset`. Several such hooks in
    a run do no harm.
    """

    # Before the logger (BELOW_NORMAL) and before checkpoints are written (VERY_LOW).
    priority = "NORMAL"

    def __init__(self) -> None:
        self._states = RandomStates()
        self._before_val: dict[str, Any] | None = None
        self._epoch_began: int | None = None
        self._samples_done = 0

    def before_train(self, runner: Runner) -> None:
        if runner.iter == 0:
            # Weights to start from are no run to continue.
            self._states.read({})
            self._samples_done = 0
        if not isinstance(runner.train_loop, IterBasedTrainLoop) and not self._samples_done:
            # Each epoch draws a number for its data loader, a resumed one too.
            self._states.restore(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        samples, self._samples_done = self._samples_done, 0
        sampler = runner.train_dataloader.sampler
        if isinstance(sampler, SeededEpochSampler):
            sampler.skip(samples // get_world_size())
            self._epoch_began = runner.iter - samples // _samples_per_iteration(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        # Not earlier: a data loader that is in use when a run stops, as the one of a run without
        # epochs, draws when it is resumed, which the uninterrupted run did when its use began.
        self._states.restore(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self.is_last_train_iter(runner) or any(
            not hook.by_epoch and self.every_n_train_iters(runner, hook.interval)
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook)
        ):
            self._states.collect()

    def after_train_epoch(self, runner: Runner) -> None:
        # Of a checkpoint at the end of an epoch, in which nothing was left to do.
        self._states.restore(runner)
        self._epoch_began = None
        self._states.collect()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._states.write(checkpoint)
        forget_logs(checkpoint)
        if self._epoch_began is not None:
            done = checkpoint["meta"]["iter"] - self._epoch_began
            checkpoint[_SAMPLES_DONE] = done * _samples_per_iteration(runner)
        if runner.cfg.get("model") is not None:  # else the runner was made without a config
            checkpoint[RUN_CONFIG] = describe(runner.cfg)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._states.read(checkpoint)
        self._samples_done = checkpoint.get(_SAMPLES_DONE, 0)
        _stay_in(runner.work_dir, checkpoint)

    def before_val(self, runner: Runner) -> None:
        # A run resumed from here does not validate first, and must draw the same numbers.
        self._before_val = random_state()

    def after_val(self, runner: Runner) -> None:
        if self._before_val is not None:
            set_random_state(self._before_val)
            self._before_val = None

    def before_val_epoch(self, runner: Runner) -> None:
        # For the checkpoint of the best result, which is written after validation.
        self._states.collect()


def _samples_per_iteration(runner: Runner) -> int:
    return runner.train_dataloader.batch_size * get_world_size()


def _stay_in(work_dir: str | os.PathLike, checkpoint: dict) -> None:
    """Makes a resumed run look for its best checkpoint in its own work dir.

    mmengine deletes the best checkpoint when there is a better one, by the path that the run had
    before: in a folder that was copied, or that another run goes on from, it is not this run's.
    """
    info = (checkpoint.get("message_hub") or {}).get("runtime_info", {})
    for key in [key for key in info if key.startswith("best_ckpt")]:
        path = Path(work_dir, Path(str(info[key])).name)
        info[key] = os.fspath(path) if path.exists() else None
