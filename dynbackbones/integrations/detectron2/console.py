"""The console of a run of our command with detectron2."""

import logging
import os
import time
from collections.abc import Iterable, Mapping

from detectron2.engine import DefaultTrainer
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, get_event_storage
from detectron2.utils.logger import setup_logger
from torch import nn

from dynbackbones.integrations.console import quieten, say
from dynbackbones.training import report
from dynbackbones.training.loop import PREFIX

_PERIOD = 20
"""Iterations between two lines, as between those of detectron2's log."""
_PATIENCE = 20
"""Seconds of an evaluation between two lines."""


def set_up(output_dir: str, verbose: bool) -> None:
    """Makes the loggers of detectron2 and of this package, before `default_setup` uses the former.

    Args:
        output_dir: of the run; its ``log.txt`` has everything.
        verbose: whether the console has that too.
    """
    rank = comm.get_rank()
    # Called as `default_setup` does, which then gets these loggers: detectron2 keeps them.
    loggers = [
        setup_logger(output_dir, distributed_rank=rank, name="fvcore"),
        setup_logger(output_dir, distributed_rank=rank),
        setup_logger(output_dir, distributed_rank=rank, name="dynbackbones"),
    ]
    if not verbose:
        for logger in loggers:
            quieten(logger, _Read())
        # That there is no CUDA, when detectron2 describes the environment.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


class _Read:
    """Of what detectron2 logs, says what a person reads: weights, how far an evaluation is."""

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def __call__(self, record: logging.LogRecord) -> bool:
        text, now = record.getMessage(), time.monotonic()
        if text.startswith("Start inference"):
            self._shown = now
        due = text.startswith("Inference done") and now - self._shown > _PATIENCE
        self._shown = now if due else self._shown
        return due or text.startswith("[Checkpointer] Loading from")


def print_heading(
    model: nn.Module,
    datasets: Iterable[str],
    sizes: Mapping[str, int] | None,
    trains: bool = True,
    done: int = 0,
) -> None:
    """Prints the first words of a run, in its main process.

    Args:
        model: wrapped for distributed training or not.
        datasets: names.
        sizes: numbers of their images, as far as they are known.
        trains: whether the run trains.
        done: iterations before it.
    """
    if comm.is_main_process():
        model = getattr(model, "module", model)
        data = ", ".join(report.counted(name, (sizes or {}).get(name)) for name in datasets)
        say(report.heading(model, data, "detectron2", trains=trains, done=done))


def print_progress(trainer: DefaultTrainer) -> None:
    """Has a trainer print a line of progress beside each that it logs."""
    if comm.is_main_process():
        printer = ProgressPrinter(trainer.model, trainer.max_iter)
        # Behind detectron2's writers, one of which finds out how long it will take.
        trainer.register_hooks([PeriodicWriter([printer], period=_PERIOD)])


def print_files(output_dir: str) -> None:
    """Prints where the files of a run are, in its main process."""
    if comm.is_main_process():
        say(report.files(output_dir, os.path.join(output_dir, "log.txt")))


class ProgressPrinter(EventWriter):
    """Prints iteration, time, losses, rates and MACs in one line.

    Args:
        model: that is trained.
        max_iter: iterations in all.
        window: iterations that losses are a median over, as in detectron2's log, and rates a mean.
    """

    def __init__(self, model: nn.Module, max_iter: int, window: int = 20) -> None:
        self._model = model
        self._max_iter = max_iter
        self._window = window

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:  # the last call after training has nothing new
            return
        latest, histories = storage.latest(), storage.histories()
        values = {"time": histories["time"].global_avg()} if "time" in histories else {}
        for key in histories:
            if "loss" in key:
                name = "loss" if key == "total_loss" else key
                values[name] = histories[key].median(storage.count_samples(key, self._window))
        for name in report.figure_names(self._model, "image"):
            values[name] = histories[f"{PREFIX}/{name}"].avg(self._window)
        if "lr" in latest:
            values["lr"] = latest["lr"][0]
        eta = latest["eta_seconds"][0] if "eta_seconds" in latest else None
        step = f"iter {storage.iter + 1}/{self._max_iter}"
        say(report.progress(step, eta, values))
