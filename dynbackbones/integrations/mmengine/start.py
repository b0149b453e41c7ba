"""Where a training of a config starts: anew, or from a checkpoint, which is looked at first."""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.config import Config

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.last_checkpoint import last_checkpoint, load_resumable
from dynbackbones.integrations.mmengine.run_config import check_same_run
from dynbackbones.training.run_folder import has_checkpoints


def choose_start(cfg: Config, resume: str | None) -> str | None:
    """Makes a config continue a run, if it is to.

    Args:
        cfg: of a run; where it continues, ``resume`` and ``load_from`` are set.
        resume: a checkpoint, ``"auto"`` for the last one in the work dir, or None.

    Returns:
        The checkpoint that the run continues from; None if it starts anew.

    Raises:
        UserError: the work dir holds another run, or there is nothing to continue from.
    """
    folder = Path(cfg.work_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"work dir {folder} is a file; name a folder with --work-dir")
    if resume == "auto":
        # As with detectron2, a first start may say --resume too.
        resume = last_checkpoint(folder, "name one, --resume CHECKPOINT")
        if resume is None:
            print(f"no checkpoint in {folder}: starting anew", flush=True)
    elif resume is None and has_checkpoints(folder):
        raise UserError(
            f"work dir {folder} holds checkpoints of another run: continue it with --resume, or "
            "name another folder with --work-dir"
        )
    if resume is None:
        return None
    content = load_resumable(resume, "to start from its weights, set load_from or init_cfg instead")
    check_same_run(cfg, content, os.fspath(resume))
    cfg.resume, cfg.load_from = True, os.fspath(resume)
    return cfg.load_from
