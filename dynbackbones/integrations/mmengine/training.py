"""A training on mmengine's Runner that ends well, however it ends."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner

from dynbackbones.integrations.mmengine.divergence import DivergenceHook
from dynbackbones.integrations.mmengine.random_states import RandomStates
from dynbackbones.integrations.mmengine.seeded_data import SeededEpochSampler
from dynbackbones.integrations.mmengine.whole_checkpoints import WholeCheckpointHook
from dynbackbones.training.faults import named_faults
from dynbackbones.training.stopping import Stopped, StopRequest


def train(runner: Runner) -> None:
    """Trains one process's part.

    Args:
        runner: whose work dir no other run has.

    Raises:
        UserError: it diverged, the disk is full, or a process that loads data died.
        Stopped: Ctrl-C or SIGTERM came, and a checkpoint was written.
    """
    with StopRequest(runner.work_dir) as request, named_faults(runner.work_dir):
        runner.register_hook(DivergenceHook())
        runner.register_hook(StopHook(request))
        runner.register_hook(LastValidationHook())
        runner.train()


class LastValidationHook(Hook):
    """Validates in a run that is continued after its last iteration.

    mmengine does not, and a run that was killed in its last validation had the results of an
    earlier one for good.
    """

    # Before the state of training is given up (VERY_HIGH).
    priority = "HIGHEST"

    def __init__(self) -> None:
        self._due = True

    def before_train(self, runner: Runner) -> None:
        self._due = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._due = False

    def before_val(self, runner: Runner) -> None:
        self._due = False

    def after_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        last = runner.iter if isinstance(loop, IterBasedTrainLoop) else runner.epoch
        if self._due and runner.val_loop is not None and last >= loop.val_begin:
            runner.val_loop.run()


class StopHook(Hook):
    """Ends a run after the iteration in which a signal came to any of its processes.

    A checkpoint is written there that continues exactly; within an epoch only where the data can,
    which takes a `SeededEpochSampler`. A signal ends the validation of a single process, too;
    several, whose shares of the data may differ, validate to the end.

    Args:
        request: notes the signals of this process.
    """

    # After all others.
    priority = "LOWEST"

    def __init__(self, request: StopRequest) -> None:
        self._request = request
        self._states = RandomStates()
        self._saves = False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapper) and not wrapper.should_update():
            return  # the gradients that are accumulated are in no checkpoint
        done, number = runner.iter + 1, self._number()
        by_epoch = not isinstance(runner.train_loop, IterBasedTrainLoop)
        if number and not (by_epoch and done % len(runner.train_dataloader) == 0):
            exact = isinstance(runner.train_dataloader.sampler, SeededEpochSampler)
            if exact or not by_epoch:
                self._states.collect()
                self._save(runner, runner.epoch, done, within=True)
            self._stop(runner, number)

    def after_train_epoch(self, runner: Runner) -> None:
        number = 0 if isinstance(runner.train_loop, IterBasedTrainLoop) else self._number()
        if number:
            self._states.collect()
            self._save(runner, runner.epoch + 1, runner.iter, within=False)
            self._stop(runner, number)

    def before_val_epoch(self, runner: Runner) -> None:
        # A run that is continued does not validate first.
        self._states.collect()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        number = self._request.number
        if number and get_world_size() == 1:
            by_epoch = not isinstance(runner.train_loop, IterBasedTrainLoop)
            self._save(runner, runner.epoch, runner.iter, within=not by_epoch)
            self._stop(runner, number)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._saves:
            self._states.write(checkpoint)

    def _number(self) -> int:
        """Of the signal that came to any process."""
        if get_world_size() == 1:
            return self._request.number
        number = torch.tensor(self._request.number)
        all_reduce(number, "max")
        self._request.number = int(number)
        return self._request.number

    def _save(self, runner: Runner, epochs: int, iterations: int, within: bool) -> None:
        self._saves = True
        for hook in runner.hooks:
            if isinstance(hook, WholeCheckpointHook):
                hook.save_now(runner, epochs, iterations, within=within)

    def _stop(self, runner: Runner, number: int) -> None:
        barrier()  # or a process that ends could end the one that writes
        raise Stopped(number, runner.work_dir)
