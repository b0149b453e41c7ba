"""mmengine's checkpoints, each written whole before an older one goes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dynbackbones.checkpoints.whole_file import whole_file
from dynbackbones.training.run_folder import INTERRUPTED, POINTER

BACKEND = "dynbackbones.whole"
"""Of mmengine's file backends, the one that writes whole files."""


@register_backend(BACKEND)
class WholeFiles(LocalBackend):
    """Local files that have their names once they are whole, and go when `settle` says so.

    Attributes:
        removed: files that were to be removed since `settle`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.removed: list[Path] = []

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        with whole_file(filepath) as file:
            file.write(obj)

    def remove(self, filepath: str | os.PathLike) -> None:
        self.removed.append(Path(filepath))

    def settle(self, kept: set[Path]) -> None:
        """Removes what was to be removed, but for what has been written anew under its name."""
        removed, self.removed = self.removed, []
        for path in removed:
            if path.resolve() not in kept:
                path.unlink(missing_ok=True)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's hook, whose runs have a whole checkpoint at every moment after the first.

    mmengine writes in place, and where ``max_keep_ckpts`` is reached, or a result is the best, it
    removes the older file before it writes the new one: a run that is killed meanwhile is lost.
    Files that are not on a local disk are written as mmengine does.

    Takes the arguments of mmengine's.
    """

    def before_train(self, runner: Runner) -> None:
        folder = os.fspath(self.out_dir or runner.work_dir)
        chosen = self.backend_args or self.file_client_args
        if not chosen and type(get_file_backend(folder)) is LocalBackend:
            self.backend_args = {"backend": BACKEND}
        super().before_train(runner)

    def save_now(self, runner: Runner, epochs: int, iterations: int, *, within: bool) -> None:
        """Writes a checkpoint out of turn.

        Args:
            runner: between two iterations.
            epochs, iterations: that are done.
            within: whether that is within an epoch.
        """
        meta = {"epoch": epochs, "iter": iterations}
        if not (self.by_epoch and within):
            self._save_checkpoint_with_step(runner, epochs if self.by_epoch else iterations, meta)
            return
        # mmengine has no name for it, nor a place among those to keep.
        options = {"by_epoch": False, "backend_args": self.backend_args}
        runner.save_checkpoint(self.out_dir, INTERRUPTED, meta=meta, **options)
        if is_main_process():
            with whole_file(Path(runner.work_dir) / POINTER) as file:
                file.write(os.fsencode(self.file_backend.join_path(self.out_dir, INTERRUPTED)))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, int]) -> None:
        super()._save_checkpoint_with_step(runner, step, meta)
        self._settle()

    def _save_best_checkpoint(self, runner: Runner, metrics: Mapping[str, Any]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._settle()

    def _settle(self) -> None:
        backend = getattr(self, "file_backend", None)  # absent where nothing trains
        if isinstance(backend, WholeFiles) and is_main_process():
            written = [self.last_ckpt, getattr(self, "best_ckpt_path", None)]
            written += getattr(self, "best_ckpt_path_dict", {}).values()
            backend.settle({Path(path).resolve() for path in written if path})
