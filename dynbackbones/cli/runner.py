"""What ``train`` and ``test`` share: options, the config, and mmengine's Runner."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import torch.distributed
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from dynbackbones.cli.arguments import add_verbose, assignment
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.checked_runner import CheckedRunner
from dynbackbones.integrations.mmengine.checkpoint_loader import (
    PlainCheckpointHook,
    read_safely,
)
from dynbackbones.integrations.mmengine.console import ConsoleHook, QuietRunner, quiet_imports
from dynbackbones.integrations.mmengine.results import ResultsHook
from dynbackbones.integrations.mmengine.shared_paths import merge_options
from dynbackbones.integrations.openmmlab import DynamicBackboneHook, checks
from dynbackbones.integrations.openmmlab.class_agreement import ClassAgreementHook


def parser(description: str) -> argparse.ArgumentParser:
    """mmengine's usual options."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("config", help="Python config")
    options.add_argument(
        "--work-dir", metavar="FOLDER", help="for logs and checkpoints; default work_dirs/CONFIG"
    )
    options.add_argument(
        "--cfg-options",
        nargs="+",
        type=assignment,
        action=DictAction,
        metavar="KEY=VALUE",
        help="config overrides",
    )
    options.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="what started the processes; pytorch is torchrun",
    )
    add_verbose(options)
    options.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    return options


def read_config(args: argparse.Namespace) -> Config:
    """The config that a command line names, with what else the command line says.

    Raises:
        UserError: it cannot be read, needs what is not installed, or the overrides do not fit.
    """
    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    with contextlib.nullcontext() if args.verbose else quiet_imports():
        cfg = checks.load_config(args.config)
        _import_scope(cfg.get("default_scope"), args.config)
    merge_options(cfg, args.cfg_options or {}, args.config)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = os.fspath(Path("work_dirs", Path(args.config).stem))
    return cfg


def _import_scope(scope: str | None, config: str) -> None:
    """Imports the library of a config, which its registries would do later."""
    if scope in (None, "mmengine"):
        return
    if importlib.util.find_spec(scope) is None:
        raise UserError(f"config {config} needs {scope}: run pip install 'dynbackbones[openmmlab]'")
    with contextlib.suppress(ImportError):  # what a run needs of it will say so
        importlib.import_module(f"{scope}.datasets")


def is_main_process(launcher: str) -> bool:
    """Whether this is the first of a run's processes, before they know of each other.

    Args:
        launcher: what started them.
    """
    ranks = {"pytorch": "RANK", "slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_RANK"}
    return int(os.environ.get(ranks.get(launcher, ""), 0)) == 0


@contextlib.contextmanager
def process_group_left() -> Iterator[None]:
    """Leaves the process group that mmengine's Runner enters within, and never leaves.

    Its threads outlive the interpreter otherwise, which now and then aborts a process whose run
    had ended well.
    """
    entered = torch.distributed.is_initialized()
    try:
        yield
    finally:
        if torch.distributed.is_initialized() and not entered:
            torch.distributed.destroy_process_group()


def build_runner(cfg: Config, verbose: bool = False) -> Runner:
    """The Runner of a config, which writes its metrics into the work dir too.

    Args:
        cfg: of `read_config`.
        verbose: whether its console shows what its log file has.

    Raises:
        UserError: an option or a type in the config does not exist.
    """
    read_safely()
    try:
        runner = (CheckedRunner if verbose else QuietRunner).from_cfg(cfg)
    except (KeyError, TypeError) as error:
        reason = checks.wrong_config(error)
        if reason is None:
            raise
        raise UserError(f"the config cannot be used: {reason}") from error
    runner.register_hook(PlainCheckpointHook())
    if not any(isinstance(hook, DynamicBackboneHook) for hook in runner.hooks):  # which has it
        runner.register_hook(ClassAgreementHook())
    runner.register_hook(ResultsHook(), priority="LOWEST")
    engine = cfg.get("default_scope") or "mmengine"
    runner.register_hook(ConsoleHook(engine, progress=not verbose), priority="LOWEST")
    return runner
