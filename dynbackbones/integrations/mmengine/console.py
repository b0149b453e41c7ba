"""The console of a run on mmengine's Runner."""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook, LoggerHook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from dynbackbones.integrations.console import quieten, say
from dynbackbones.integrations.mmengine.checked_runner import CheckedRunner
from dynbackbones.integrations.mmengine.runner import unwrap_model
from dynbackbones.training import report

# Of what mmengine logs in each step, what is for its log file.
_PLUMBING = {"data_time", "base_lr", "momentum", "memory", "epoch", "iter", "step"}
# Printed when mmseg and mmpretrain are imported; theirs alone.
_IMPORT_NOISE = "Could not import OneDL"
_PATIENCE = 20
"""Seconds of an evaluation between two lines."""


class QuietRunner(CheckedRunner):
    """mmengine's Runner, whose console shows what a person reads; its log file has everything."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        quieten(logger, _is_read)
        return logger


def _is_read(record: logging.LogRecord) -> bool:
    """Whether this is a metric's table, such as mmseg's of each class, or says what was loaded."""
    text = record.getMessage()
    return text.startswith("\n+-") or ": loaded " in text


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Keeps what mmseg and mmpretrain print when they are imported inside off the console."""
    # If it were made inside, its console would stay the text below.
    quieten(MMLogger.get_current_instance(), _is_read)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if line != _IMPORT_NOISE:
                say(line)


class ConsoleHook(Hook):
    """Prints a run's first words, its progress, the table at its end, and where its files are.

    Args:
        engine: who does the work, such as ``"torchvision engine"``.
        datasets: names of the data of ``"train"``, ``"val"`` and ``"test"``; by default their
            classes'.
        arrange: makes of metrics what the table shows; by default them.
        progress: whether there are lines while the run goes on.
    """

    # After the hooks that add metrics and write files.
    priority = "LOWEST"

    def __init__(
        self,
        engine: str,
        datasets: Mapping[str, str] | None = None,
        arrange: Callable[[Mapping[str, float]], Mapping[str, Any]] = dict,
        progress: bool = True,
    ) -> None:
        self._engine = engine
        self._datasets = datasets or {}
        self._arrange = arrange
        self._progress = progress
        self._trains = False
        self._metrics: Mapping[str, float] = {}
        self._shown = 0.0

    def before_train(self, runner: Runner) -> None:
        self._trains = True
        self._head(runner, "train", runner.train_dataloader)

    def before_val(self, runner: Runner) -> None:
        self._shown = time.monotonic()
        if not self._trains:
            self._head(runner, "val", runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        self._shown = time.monotonic()
        self._head(runner, "test", runner.test_dataloader)

    @master_only
    def _head(self, runner: Runner, mode: str, loader: DataLoader) -> None:
        dataset = loader.dataset
        while hasattr(dataset, "dataset"):
            dataset = dataset.dataset
        model, trains = unwrap_model(runner), mode == "train"
        images = len(dataset) if hasattr(dataset, "__len__") else None
        data = report.counted(self._datasets.get(mode, type(dataset).__name__), images)
        options = {"name": _name(model), "trains": trains, "done": runner.iter if trains else 0}
        say(report.heading(model, data, self._engine, **options))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        interval = next((h.interval for h in runner.hooks if isinstance(h, LoggerHook)), 0)
        due = self.every_n_inner_iters(batch_idx, interval) or self.is_last_train_iter(runner)
        if not self._progress or not due:
            return
        # In all processes: the log's reading of memory is a reduction over them.
        logged, _ = runner.log_processor.get_log_after_iter(runner, batch_idx, "train")
        if is_main_process():
            eta = runner.message_hub.runtime_info.get("eta")
            values = _for_people(unwrap_model(runner), logged)
            say(report.progress(_step(runner, batch_idx), eta, values))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._evaluates(runner, batch_idx, len(runner.val_dataloader))

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._evaluates(runner, batch_idx, len(runner.test_dataloader))

    @master_only
    def _evaluates(self, runner: Runner, batch_idx: int, total: int) -> None:
        now = time.monotonic()
        if self._progress and now - self._shown > _PATIENCE:
            self._shown = now
            eta = runner.message_hub.runtime_info.get("eta")
            say(report.progress(f"evaluation {batch_idx + 1}/{total}", eta, {}))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._metrics = metrics or {}
        if self._trains and self._progress and runner.iter < runner.max_iters and is_main_process():
            step = f"evaluation after {runner.iter} iterations"
            values = dict(report.flat(self._arrange(self._metrics)))
            values = _for_people(unwrap_model(runner), values)
            say(report.progress(step, None, values))

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._metrics = metrics or {}

    @master_only
    def after_run(self, runner: Runner) -> None:
        if self._metrics:
            say(f"evaluation\n{report.table(self._arrange(self._metrics))}")
        say(report.files(runner.work_dir, runner.logger.log_file))
        self._trains, self._metrics = False, {}


def _name(model: nn.Module) -> str:
    """A detector's class, or a model's and that of its head: ``EncoderDecoder (FPNHead)``."""
    model = getattr(model, "detector", model)
    head = getattr(model, "decode_head", None)
    name = type(model).__name__
    return f"{name} ({type(head).__name__})" if isinstance(head, nn.Module) else name


def _step(runner: Runner, batch_idx: int) -> str:
    if not runner.log_processor.by_epoch:
        return f"iter {runner.iter + 1}/{runner.max_iters}"
    epoch, length = runner.epoch + 1, len(runner.train_dataloader)
    return f"epoch {epoch}/{runner.max_epochs}  iter {batch_idx + 1}/{length}"


def _for_people(model: nn.Module, values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers without plumbing, single stages and spreads; the decisions' come first."""
    first = report.figure_names(model, "image")
    dropped = {*_PLUMBING, *report.figure_names(model, "stage", "block")}
    dropped |= {f"{name}_std" for name in first}
    kept = {n: v for n, v in values.items() if isinstance(v, int | float) and n not in dropped}
    return {name: kept[name] for name in first if name in kept} | kept
