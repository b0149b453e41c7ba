"""``dynbackbones train``: mmengine's usual command line for training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from mmengine.config import Config

from dynbackbones.checkpoints import local_file
from dynbackbones.cli import runner
from dynbackbones.cli.arguments import parse
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.start import choose_start
from dynbackbones.integrations.mmengine.total_batch import divide_batch
from dynbackbones.integrations.mmengine.training import train
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.integrations.openmmlab.datasets.class_checks import check_class_folders
from dynbackbones.training.run_lock import locked


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = runner.parser("Train a model with mmengine's Runner.")
    options.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue from this checkpoint; without a name, from the last one in the work dir",
    )
    options.add_argument("--amp", action="store_true", help="mixed precision (CUDA only)")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains any config of this project, or of mmseg, mmpretrain or mmdet.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(parser(), arguments)
    cfg = runner.read_config(args)
    checks.check_datasets(cfg, ("train_dataloader", "val_dataloader"))
    check_class_folders(cfg, ("train_dataloader", "val_dataloader"))
    if args.amp:
        _use_amp(cfg)
    checks.check_precision(cfg)
    divide_batch(cfg, args.cfg_options or {})
    if choose_start(cfg, args.resume) is None and cfg.get("load_from"):
        cfg.load_from = local_file(cfg.load_from)
    checks.check_model(cfg, cfg.get("load_from"), whole=bool(cfg.get("resume")))
    checks.check_generators(cfg)
    lock = locked(cfg.work_dir) if runner.is_main_process(args.launcher) else nullcontext()
    with lock, runner.process_group_left():
        train(runner.build_runner(cfg, args.verbose))


def _use_amp(cfg: Config) -> None:
    if not torch.cuda.is_available():
        raise UserError("--amp needs a CUDA device, and there is none; leave it away")
    kind = cfg.optim_wrapper.get("type", "OptimWrapper")
    if kind not in ("OptimWrapper", "AmpOptimWrapper"):
        raise UserError(f"--amp cannot be combined with optim_wrapper {kind}")
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
