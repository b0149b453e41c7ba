"""The folder of a run: whether it holds one, and whether another may go there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dynbackbones.checkpoints.whole_file import is_cut_short, is_whole
from dynbackbones.errors import UserError

FINAL_WEIGHTS = "model_final.pth"
"""What a finished run leaves."""

INTERRUPTED = "interrupted.pth"
"""A checkpoint inside an epoch, for which frameworks have no name."""

POINTER = "last_checkpoint"
"""A file that names the checkpoint to continue from."""

CHECKPOINTS = "*.pth"
"""Pattern of the names of checkpoints, one to continue from or not."""

# What the engines name checkpoints that a run can be continued from, beside the last one.
_NUMBERED = re.compile(rf"(iter|epoch|model)_\d+\.pth|{INTERRUPTED}")


def has_checkpoints(output_dir: str | os.PathLike) -> bool:
    """Whether a folder holds checkpoints of a run."""
    folder = Path(output_dir)
    return (folder / POINTER).exists() or any(folder.glob(CHECKPOINTS))


def check_output_folder(output_dir: str | os.PathLike, *, resume: bool) -> None:
    """Refuse to train over another run.

    Args:
        output_dir: ``OUTPUT_DIR`` of the config; made later, by the engine.
        resume: the run that lies there is the one to continue.

    Raises:
        UserError: the folder holds checkpoints and is not to be resumed, or is not a folder.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"OUTPUT_DIR {folder} is a file: name a folder")
    if not resume and has_checkpoints(folder):
        raise UserError(
            f"OUTPUT_DIR {folder} holds checkpoints of another run: continue it with --resume, "
            "or name another folder (OUTPUT_DIR some/folder at the end of the command)"
        )


def checkpoint_candidates(folder: str | os.PathLike) -> list[Path]:
    """Files that a run could be continued from: the one that it calls its last, then the newest."""
    folder = Path(folder)
    pointer = folder / POINTER
    # By its name alone: the folder may have been moved.
    name = Path(pointer.read_text(encoding="utf-8").strip()).name if pointer.is_file() else ""
    last = [folder / name] if name and (folder / name).is_file() else []
    others = [path for path in folder.glob(CHECKPOINTS) if _NUMBERED.fullmatch(path.name)]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return last + [path for path in others if path not in last]


def newest_checkpoint(folder: str | os.PathLike) -> Path | None:
    """The first of `checkpoint_candidates` that is whole; None without one."""
    return next(filter(is_whole, checkpoint_candidates(folder)), None)


def checkpoint_to_resume(folder: str | os.PathLike, remedy: str) -> tuple[Path | None, str]:
    """The last whole checkpoint of the run in a folder, and a word on those that are not.

    Args:
        folder: of the run.
        remedy: ends the error message.

    Returns:
        None where the run has no checkpoint, or none that can be read; ``""`` where there is
        nothing to say.

    Raises:
        UserError: there are checkpoints, and nothing says which of them is the last.
    """
    folder, damaged = Path(folder), []
    for path in checkpoint_candidates(folder):
        if is_whole(path):
            return path, _word(damaged, f"going on from {path}")
        damaged.append(path.name)
    if not has_checkpoints(folder):
        return None, ""
    files = list(folder.glob(CHECKPOINTS))
    if files and all(is_cut_short(path) for path in files):
        return None, _word(sorted(path.name for path in files), "starting anew")
    raise UserError(
        f"folder {folder} holds checkpoints, but its file {POINTER} names none of them: {remedy}"
    )


def _word(damaged: list[str], then: str) -> str:
    names = ", ".join(damaged)
    return f"damaged, or not written to the end: {names}; {then}" if damaged else ""
