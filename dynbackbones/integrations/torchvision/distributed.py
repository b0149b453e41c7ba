"""Starting one process per GPU, or several on the CPU."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import torch
from fvcore.common.config import CfgNode
from torch import multiprocessing

from dynbackbones.errors import UserError

Work = Callable[[argparse.Namespace, CfgNode], None]


def start(work: Work, args: argparse.Namespace, cfg: CfgNode) -> None:
    """Calls ``work(args, cfg)`` in every process of this machine and waits for them.

    Args:
        work: a function at the top level of a module.
        args: of `launch.parser`; says how many processes and machines.
        cfg: the run's config.

    Raises:
        UserError: fewer GPUs than processes, or what ``work`` raised.
    """
    cuda = cfg.MODEL.DEVICE != "cpu" and torch.cuda.is_available()
    if cuda and args.num_gpus > torch.cuda.device_count():
        raise UserError(
            f"--num-gpus {args.num_gpus}, but there are {torch.cuda.device_count()} CUDA devices"
        )
    if args.num_gpus * args.num_machines == 1:
        work(args, cfg)
        return
    try:
        multiprocessing.spawn(_process, nprocs=args.num_gpus, args=(work, args, cfg, cuda))
    except multiprocessing.ProcessRaisedException as error:
        # All that is left of the child's exception is its traceback as text.
        kind = f"{UserError.__module__}.{UserError.__qualname__}: "
        last = str(error).strip().splitlines()[-1]
        if last.startswith(kind):
            raise UserError(last.removeprefix(kind)) from error
        raise


def _process(
    local_rank: int, work: Work, args: argparse.Namespace, cfg: CfgNode, cuda: bool
) -> None:
    if cuda:
        torch.cuda.set_device(local_rank)
    # mmengine reads this variable.
    os.environ["LOCAL_RANK"] = str(local_rank)
    torch.distributed.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=args.dist_url,
        rank=args.machine_rank * args.num_gpus + local_rank,
        world_size=args.num_gpus * args.num_machines,
    )
    try:
        work(args, cfg)
    finally:
        torch.distributed.destroy_process_group()
