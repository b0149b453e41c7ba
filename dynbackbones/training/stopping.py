"""Ctrl-C and SIGTERM end a training between two iterations, with a checkpoint."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from dynbackbones.training.run_folder import newest_checkpoint

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REPEATED = 1.0
"""Seconds within which the same signal counts once: a terminal and a parent may both send it."""


class Stopped(SystemExit):
    """A training that a signal ended where it can be continued.

    Args:
        number: of the signal.
        folder: of the run.

    Attributes:
        code: as shells have it, 128 and the signal's number.
        message: says how to continue.
    """

    def __init__(self, number: int, folder: str | os.PathLike) -> None:
        super().__init__(128 + number)
        newest, name = newest_checkpoint(folder), signal.Signals(number).name
        if newest is None:
            self.message = f"stopped by {name} before there was a checkpoint: start anew"
        else:
            self.message = f"stopped by {name}; the last checkpoint is {newest}: add --resume"


class StopRequest:
    """Notes SIGINT and SIGTERM while its block runs; a second one ends the process as usual.

    Outside the main thread, where Python lets nobody handle signals, it notes nothing.

    Args:
        folder: of the run.
        forward: whether the processes that train are this one's children.

    Attributes:
        number: of the signal that came; 0 for none.

    Raises:
        Stopped: at the end of the block, where it ends in an error after a signal came, such as a
            loader process that the signal ended too.
    """

    def __init__(self, folder: str | os.PathLike, *, forward: bool = False) -> None:
        self.number = 0
        self._folder = folder
        self._forward = forward
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._note) for one in _SIGNALS}
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._restore()
        if self.number and isinstance(error, Exception):
            raise Stopped(self.number, self._folder) from error

    def _restore(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            if time.monotonic() - self._since > _REPEATED:
                self._restore()
                signal.raise_signal(number)
            return
        self.number, self._since = number, time.monotonic()
        # A signal for the whole group ends loader processes too, of which torch's handler would
        # make an error in the midst of a step.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for child in multiprocessing.active_children() if self._forward else ():
            with suppress(ProcessLookupError):
                os.kill(child.pid, number)
