"""The random states of all processes, kept so that a resumed run draws what the other one drew."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.runner import Runner
from torch.utils.data import get_worker_info

_KEY = "random_states"


class RandomStates:
    """The random states of all processes, on their way into a checkpoint and out of one."""

    def __init__(self) -> None:
        self._collected: list[dict[str, Any]] = []
        self._resumed: list[dict[str, Any]] | None = None

    def collect(self) -> None:
        """Takes the present states; to be called in every process before a checkpoint is due."""
        # Only the main process writes, so the others' states come to it.
        self._collected = all_gather_object(random_state())

    def write(self, checkpoint: dict) -> None:
        """Puts them into a checkpoint."""
        checkpoint[_KEY] = self._collected

    def read(self, checkpoint: dict) -> None:
        """Takes the states of a run that is to be resumed out of its checkpoint."""
        self._resumed = checkpoint.get(_KEY)

    def restore(self, runner: Runner) -> None:
        """Continues from the states that `read` found; later calls do nothing."""
        resumed, self._resumed = self._resumed, None
        if not resumed:
            return
        if len(resumed) == get_world_size():
            set_random_state(resumed[get_rank()])
        else:
            runner.logger.warning(
                f"the checkpoint is of a run with {len(resumed)} processes, this one has "
                f"{get_world_size()}: losses will differ from those of the uninterrupted run"
            )


@contextmanager
def random_state_kept() -> Iterator[None]:
    """What follows the block draws the numbers that it would have drawn without the block."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)


def random_state() -> dict[str, Any]:
    """The states of all random number generators of this process, as plain data and tensors."""
    # The legacy generator is the global one, which other people's code may draw from.
    algorithm, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (algorithm, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if _has_gpu() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restores what `random_state` returned."""
    random.setstate(state["python"])
    algorithm, keys, *rest = state["numpy"]
    keys = keys.cpu().numpy().astype(np.uint32)
    np.random.set_state((algorithm, keys, *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and _has_gpu():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def _has_gpu() -> bool:
    """Whether this process may use a GPU: forked workers of data loaders must not touch it."""
    return torch.cuda.is_available() and get_worker_info() is None
