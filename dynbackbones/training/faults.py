"""What ends a training before its time, named in one line with what is left of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dynbackbones.checkpoints.whole_file import refused
from dynbackbones.errors import UserError
from dynbackbones.training.run_folder import newest_checkpoint

ADVICE = "lower the learning rate, warm up for longer or clip gradients"
"""What to do about a training that diverges."""
_DEAD_WORKER = re.compile(r"DataLoader worker \(pid[^)]*\)[^.]*")


def diverged(
    folder: str | os.PathLike,
    iteration: int,
    losses: Mapping[str, float] | str,
    advice: str = ADVICE,
) -> UserError:
    """The error for a loss that is not finite.

    Args:
        folder: of the run.
        iteration: that it is of, from 1.
        losses: its parts, or a text that names them.
        advice: what to do about it.
    """
    parts = losses
    if isinstance(losses, Mapping):
        parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    return UserError(
        f"training diverged: the loss of iteration {iteration} is not finite ({parts}); "
        f"{advice}; {whats_left(folder)}"
    )


def weights_diverged(
    folder: str | os.PathLike, iteration: int, names: list[str], total: int
) -> UserError:
    """The error for weights that are not finite and were therefore not written.

    Args:
        folder: of the run.
        iteration: after which they are, from 1.
        names: of those tensors.
        total: number of all.
    """
    return UserError(
        f"training diverged: after iteration {iteration} {len(names)} of {total} tensors are not "
        f"finite, the first {names[0]}, and no checkpoint was written; {ADVICE}; "
        f"{whats_left(folder)}"
    )


def whats_left(folder: str | os.PathLike) -> str:
    """Which checkpoint a run can be continued from."""
    newest = newest_checkpoint(folder)
    if newest is None:
        return "no checkpoint had been written yet"
    return f"the last good checkpoint is {newest}"


@contextmanager
def named_faults(folder: str | os.PathLike) -> Iterator[None]:
    """Inside, a training whose disk is full or whose data loading dies ends in one line.

    Args:
        folder: of the run.

    Raises:
        UserError: names the fault and the last good checkpoint.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        dead = _DEAD_WORKER.search(str(error))
        if dead:
            raise UserError(
                f"a process that loads data died ({dead.group().strip()}), as when memory runs "
                "out: use fewer of them (DATALOADER.NUM_WORKERS, train_dataloader.num_workers) or "
                f"free memory, and continue with --resume; {whats_left(folder)}"
            ) from error
        file = error.filename if isinstance(error, OSError) and error.filename else folder
        mistake = refused(error, file)
        if mistake is None:
            raise
        raise UserError(f"{mistake}; {whats_left(folder)}") from error
    except UserError as error:
        # A checkpoint that could not be written: the one before it is still there.
        if isinstance(error.__cause__, OSError | RuntimeError):
            raise UserError(f"{error}; {whats_left(folder)}") from error.__cause__
        raise
