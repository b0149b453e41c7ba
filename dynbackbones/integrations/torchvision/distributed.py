"""Starting one process per GPU, or several on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from fvcore.common.config import CfgNode
from torch import multiprocessing

from dynbackbones.errors import UserError, mistake_in
from dynbackbones.integrations.engine import Launch
from dynbackbones.integrations.user_modules import import_modules
from dynbackbones.training.stopping import StopRequest

Work = Callable[[CfgNode, Launch], None]


def start(work: Work, cfg: CfgNode, launch: Launch) -> None:
    """Calls ``work(cfg, launch)`` in every process of this machine and waits for them.

    Args:
        work: a function at the top level of a module.
        cfg: the run's config.
        launch: says how many processes and machines.

    Raises:
        UserError: fewer GPUs than processes, or what ``work`` raised.
        Stopped: a signal ended them.
    """
    cuda = cfg.MODEL.DEVICE != "cpu" and torch.cuda.is_available()
    if cuda and launch.num_gpus > torch.cuda.device_count():
        raise UserError(
            f"--num-gpus {launch.num_gpus}, but there are {torch.cuda.device_count()} CUDA devices"
        )
    if launch.processes == 1:
        work(cfg, launch)
        return
    try:
        with StopRequest(cfg.OUTPUT_DIR, forward=True):
            multiprocessing.spawn(_process, nprocs=launch.num_gpus, args=(work, cfg, launch, cuda))
    except multiprocessing.ProcessRaisedException as error:
        mistake = mistake_in(str(error))
        if mistake is None:
            raise
        raise UserError(mistake) from error


def _process(local_rank: int, work: Work, cfg: CfgNode, launch: Launch, cuda: bool) -> None:
    import_modules(launch.imports)
    if cuda:
        torch.cuda.set_device(local_rank)
    # mmengine reads this variable.
    os.environ["LOCAL_RANK"] = str(local_rank)
    torch.distributed.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=launch.dist_url,
        rank=launch.machine_rank * launch.num_gpus + local_rank,
        world_size=launch.processes,
    )
    try:
        work(cfg, launch)
    finally:
        torch.distributed.destroy_process_group()
