"""The checkpoint that a run goes on from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process

from dynbackbones import checkpoints
from dynbackbones.checkpoints.finding import foreign_names
from dynbackbones.errors import UserError
from dynbackbones.integrations.console import say
from dynbackbones.training.run_folder import checkpoint_to_resume

# What mmengine's Runner reads of a checkpoint in any case.
_NEEDED = ("meta", "state_dict", "optimizer", "message_hub")
# What of it must be there as it was saved.
_STATES = ("state_dict", "optimizer", "param_schedulers")


def last_checkpoint(folder: str | os.PathLike, remedy: str) -> str | None:
    """The last whole checkpoint of the run in a folder; None where the run has none.

    Files that were not written whole, or were damaged since, are passed over with a word.

    Args:
        folder: the run's work dir.
        remedy: ends the error message.

    Raises:
        UserError: there are checkpoints, and nothing says which of them is the last.
    """
    path, word = checkpoint_to_resume(folder, remedy)
    if word and is_main_process():
        say(word)
    return None if path is None else os.fspath(path)


def load_resumable(
    path: str | os.PathLike, remedy: str, also_needed: Sequence[str] = ()
) -> dict[str, Any]:
    """Reads a checkpoint that mmengine's Runner can continue from.

    Args:
        path: the file.
        remedy: ends the error message.
        also_needed: keys beside those that any run has.

    Raises:
        UserError: the file cannot be read, or lacks something.
    """
    content = checkpoints.load(path)
    absent = [key for key in (*_NEEDED, *also_needed) if key not in content]
    if absent:
        raise UserError(f"checkpoint {path} cannot be continued from (no {absent[0]}): {remedy}")
    for key in (*_STATES, *also_needed):
        foreign = foreign_names(content.get(key))
        if foreign:
            raise UserError(
                f"checkpoint {path} cannot be continued from ({key} holds {foreign[0]}, which is "
                f"not loaded from files): {remedy}"
            )
    return content
