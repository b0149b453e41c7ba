"""What a run of a command shows on the console; its log file keeps everything.

Commands call it, never a module that is imported: other projects keep their console.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable

from dynbackbones.errors import UserError

TO_CONSOLE = {"console": True}
"""``extra`` of an information for the log that a person reads; the others are for the file."""

# What libraries say among themselves, by its beginning: no user can change it.
_WARNINGS = (
    "`torch.jit.script` is deprecated",  # detectron2
    "torch.meshgrid",  # detectron2
    "Detected pickle protocol",  # torch, of files that the second way of reading takes
    "torch.utils.checkpoint",  # mmseg leaves use_reentrant to it
    "Fail to import ``MultiScaleDeformableAttention``",  # mmcv without compiled operators
    "Default ``avg_non_ignore`` is False",  # mmseg, whose configs all keep the default
    "Multi-processing start method",  # mmengine, which sets its own, and one thread each
    "Setting OMP_NUM_THREADS",
    "Setting MKL_NUM_THREADS",
    "`broadcast_buffers` is deprecated",  # torch, of what mmengine calls
)
_RECORDS = (
    '"FileClient" will be deprecated',  # mmengine's own hooks use both
    '"HardDiskBackend" is the alias',
    "The prefix is not set in metric class",  # mmseg's metrics
    "Reach the end of the dataloader",  # mmengine, also with a sampler of the right kind
)


def say(text: str) -> None:
    """Prints; a terminal that is gone, or a pipe that nobody reads, ends no training."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def silence_libraries() -> None:
    """Hides warnings that no user can act on, here and in processes that are started later."""
    for text in _WARNINGS:
        warnings.filterwarnings("ignore", message=re.escape(text))
    known = [rule for rule in os.environ.get("PYTHONWARNINGS", "").split(",") if rule]
    rules = dict.fromkeys([*known, *(f"ignore:{text}" for text in _WARNINGS)])
    os.environ["PYTHONWARNINGS"] = ",".join(rules)


def quieten(
    logger: logging.Logger, shown: Callable[[logging.LogRecord], bool] | None = None
) -> None:
    """Lets a logger's console show warnings and what is for a person alone.

    Args:
        logger: whose handlers are in place; those of files are left alone.
        shown: says what else a person reads.
    """
    for handler in logger.handlers:
        on_console = getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
        if on_console and not any(isinstance(f, _ForPeople) for f in handler.filters):
            handler.addFilter(_ForPeople(shown))
            handler.setFormatter(_Plain())


class _ForPeople(logging.Filter):
    """Passes warnings, but for `_RECORDS`, and what is marked with `TO_CONSOLE`."""

    def __init__(self, shown: Callable[[logging.LogRecord], bool] | None) -> None:
        super().__init__()
        self._shown = shown

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], UserError):
            return False  # the command says it in one line
        if record.levelno >= logging.WARNING:
            return not record.getMessage().startswith(_RECORDS)
        return getattr(record, "console", False) or bool(self._shown and self._shown(record))


class _Plain(logging.Formatter):
    """The message alone, with the level's name where it is a warning or worse."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).strip("\n")
        if record.levelno < logging.WARNING:
            return text
        return f"{record.levelname.lower()}: {text}"
