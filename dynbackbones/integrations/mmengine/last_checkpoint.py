"""The checkpoint that a run goes on from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynbackbones import checkpoints
from dynbackbones.checkpoints.finding import foreign_names
from dynbackbones.errors import UserError
from dynbackbones.training.run_folder import has_checkpoints

# What mmengine's Runner reads of a checkpoint in any case.
_NEEDED = ("meta", "state_dict", "optimizer", "message_hub")
# What of it must be there as it was saved.
_STATES = ("state_dict", "optimizer", "param_schedulers")


def last_checkpoint(folder: str | os.PathLike, remedy: str) -> str | None:
    """The last checkpoint of the run in a folder; None where no run was.

    Args:
        folder: the run's work dir.
        remedy: ends the error message.

    Raises:
        UserError: there are checkpoints, and nothing says which of them is the last.
    """
    folder = Path(folder)
    if not has_checkpoints(folder):
        return None
    pointer = folder / "last_checkpoint"
    # By its name alone: the folder may have been moved.
    name = Path(pointer.read_text(encoding="utf-8").strip()).name if pointer.exists() else ""
    if not (name and (folder / name).is_file()):
        raise UserError(
            f"folder {folder} holds checkpoints, but its file last_checkpoint names none of them: "
            f"{remedy}"
        )
    return os.fspath(folder / name)


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
