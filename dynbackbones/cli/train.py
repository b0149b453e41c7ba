"""Command lines of ``tools/train.py`` and ``tools/test.py``: mmengine's usual options."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dynbackbones.errors import UserError
from dynbackbones.training.run_folder import has_checkpoints

# Where a launcher says how many processes there are.
_WORLD_SIZES = {
    "pytorch": "WORLD_SIZE",
    "slurm": "SLURM_NTASKS",
    "mpi": "OMPI_COMM_WORLD_SIZE",
}


def train(arguments: Sequence[str] | None = None) -> None:
    """Trains any config of this project, or of mmseg, mmpretrain or mmdet.

    Raises:
        UserError: the input is at fault.
    """
    args = _train_parser().parse_args(arguments)
    runner_of = _start(args)
    from dynbackbones.integrations.openmmlab import checks
    from dynbackbones.integrations.openmmlab.datasets.class_checks import check_class_folders

    cfg = _config(args)
    checks.check_datasets(cfg, ("train_dataloader", "val_dataloader"))
    check_class_folders(cfg, ("train_dataloader", "val_dataloader"))
    if args.amp:
        _use_amp(cfg)
    _divide_batch(cfg, args.cfg_options or {})
    _choose_start(cfg, args.resume)
    checks.check_model(cfg, cfg.get("load_from"), whole=bool(cfg.get("resume")))
    checks.check_generators(cfg)
    runner_of(cfg).train()


def test(arguments: Sequence[str] | None = None) -> None:
    """Tests a checkpoint on a config's test set and returns nothing; metrics go to the work dir.

    Raises:
        UserError: the input is at fault.
    """
    args = _test_parser().parse_args(arguments)
    runner_of = _start(args)
    from dynbackbones.integrations.openmmlab import checks
    from dynbackbones.integrations.openmmlab.datasets.class_checks import check_class_folders

    cfg = _config(args)
    if cfg.get("test_dataloader") is None:
        raise UserError(f"config {args.config} has no test_dataloader; there is nothing to test on")
    checks.check_datasets(cfg, ("test_dataloader",))
    check_class_folders(cfg, ("test_dataloader",))
    checks.check_model(cfg, args.checkpoint, whole=True)
    if args.tta:
        _use_tta(cfg)
    cfg.load_from = args.checkpoint
    runner_of(cfg).test()


def _parser(description: str) -> argparse.ArgumentParser:
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("config", help="Python config")
    parser.add_argument(
        "--work-dir", metavar="FOLDER", help="for logs and checkpoints; default work_dirs/CONFIG"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        type=_assignment,
        action=DictAction,
        metavar="KEY=VALUE",
        help="config overrides",
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="what started the processes; pytorch is torchrun",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    return parser


def _train_parser() -> argparse.ArgumentParser:
    parser = _parser("Train a model with mmengine's Runner.")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue from this checkpoint; without a name, from the last one in the work dir",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (CUDA only)")
    return parser


def _test_parser() -> argparse.ArgumentParser:
    parser = _parser("Test a checkpoint with mmengine's Runner.")
    parser.add_argument("checkpoint", help="file with the weights")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    return parser


def _assignment(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got {text!r}")
    return text


def _start(args: argparse.Namespace):
    """Checks what must be installed, registers this package, returns the runner's constructor."""
    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    import dynbackbones.integrations.openmmlab  # noqa: F401  (registers)

    return _build_runner


def _build_runner(cfg):
    from mmengine.runner import Runner

    from dynbackbones.integrations.mmengine.results import ResultsHook
    from dynbackbones.integrations.openmmlab.checks import wrong_config

    try:
        runner = Runner.from_cfg(cfg)
    except (KeyError, TypeError) as error:
        reason = wrong_config(error)
        if reason is None:
            raise
        raise UserError(f"the config cannot be used: {reason}") from error
    runner.register_hook(ResultsHook(), priority="LOWEST")
    return runner


def _config(args: argparse.Namespace):
    from dynbackbones.integrations.openmmlab import checks

    cfg = checks.load_config(args.config)
    scope = cfg.get("default_scope")
    if scope not in (None, "mmengine") and importlib.util.find_spec(scope) is None:
        raise UserError(
            f"config {args.config} needs {scope}: run pip install 'dynbackbones[openmmlab]'"
        )
    try:
        cfg.merge_from_dict(args.cfg_options or {})
    except (KeyError, TypeError) as error:
        raise UserError(f"--cfg-options do not fit {args.config}: {error.args[0]}") from error
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = os.fspath(Path("work_dirs", Path(args.config).stem))
    return cfg


def _choose_start(cfg, resume: str | None) -> None:
    """Where training starts: anew, or from a checkpoint, which is looked at first.

    Raises:
        UserError: the work dir holds another run, or there is nothing to continue from.
    """
    from dynbackbones.integrations.mmengine.last_checkpoint import last_checkpoint, load_resumable
    from dynbackbones.integrations.openmmlab.weights import find_weights

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
    if resume is not None:
        from dynbackbones.integrations.mmengine.run_config import check_same_run

        content = load_resumable(
            resume, "to start from its weights, set load_from or init_cfg instead"
        )
        check_same_run(cfg, content, os.fspath(resume))
        cfg.resume, cfg.load_from = True, os.fspath(resume)
    elif cfg.get("load_from"):
        cfg.load_from = find_weights(cfg.load_from)


def _divide_batch(cfg, options: Mapping[str, Any]) -> None:
    """Divides ``total_batch_size``, where a config has it, among processes and accumulated steps.

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


def _use_amp(cfg) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError("--amp needs a CUDA device, and there is none; leave it away")
    kind = cfg.optim_wrapper.get("type", "OptimWrapper")
    if kind not in ("OptimWrapper", "AmpOptimWrapper"):
        raise UserError(f"--amp cannot be combined with optim_wrapper {kind}")
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.setdefault("loss_scale", "dynamic")


def _use_tta(cfg) -> None:
    for key in ("tta_model", "tta_pipeline"):
        if cfg.get(key) is None:
            raise UserError(f"--tta needs {key} in the config")
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model
