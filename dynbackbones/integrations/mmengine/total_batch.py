"""A config's ``total_batch_size``, which does not depend on how many processes train."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from dynbackbones.errors import UserError

# Where a launcher says how many processes there are.
_WORLD_SIZES = {
    "pytorch": "WORLD_SIZE",
    "slurm": "SLURM_NTASKS",
    "mpi": "OMPI_COMM_WORLD_SIZE",
}


def divide_batch(cfg: Config, options: Mapping[str, Any]) -> None:
    """Divides ``total_batch_size``, where a config has it, among processes and accumulated steps.

    Args:
        cfg: changed in place: ``train_dataloader.batch_size`` and ``auto_scale_lr``.
        options: overrides of the command line.

    Raises:
        UserError: it cannot be divided, or the batch of one process is given as well.
    """
    total = cfg.get("total_batch_size")
    if total is None:
        return
    if "train_dataloader.batch_size" in options:
        raise UserError(
            "this config divides total_batch_size among the processes: set total_batch_size=... "
            "instead of train_dataloader.batch_size"
        )
    processes = int(os.environ.get(_WORLD_SIZES.get(cfg.launcher, ""), 1))
    steps = cfg.optim_wrapper.get("accumulative_counts", 1)
    if total < 1 or total % (processes * steps):
        raise UserError(
            f"total_batch_size {total} cannot be divided among {processes} processes and {steps} "
            f"accumulated steps; make it a multiple of {processes * steps}"
        )
    cfg.train_dataloader.batch_size = total // (processes * steps)
    if cfg.get("auto_scale_lr") and cfg.auto_scale_lr.get("base_batch_size"):
        # mmengine does not count accumulated steps.
        cfg.auto_scale_lr.base_batch_size /= steps
