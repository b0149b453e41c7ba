"""The folder of a run: whether it holds one, and whether another may go there."""

import os
from pathlib import Path

from dynbackbones.errors import UserError

FINAL_WEIGHTS = "model_final.pth"
"""What a finished run leaves."""

_CHECKPOINTS = "*.pth"


def has_checkpoints(output_dir: str | os.PathLike) -> bool:
    """Whether a folder holds checkpoints of a run."""
    folder = Path(output_dir)
    return (folder / "last_checkpoint").exists() or any(folder.glob(_CHECKPOINTS))


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
