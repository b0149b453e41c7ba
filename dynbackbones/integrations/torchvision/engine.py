"""Training and evaluation of torchvision's detectors on mmengine's Runner."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from mmengine.dist import broadcast_object_list, get_rank, get_world_size
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.runner import IterBasedTrainLoop, set_random_seed

from dynbackbones import checkpoints
from dynbackbones.checkpoints.loading import DETECTOR_PREFIX
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import check_policy_training
from dynbackbones.integrations.console import quieten
from dynbackbones.integrations.datasets import classes_in, classes_of_weights
from dynbackbones.integrations.engine import Launch
from dynbackbones.integrations.mmengine.checked_runner import CheckedRunner
from dynbackbones.integrations.mmengine.checkpoint_loader import read_safely
from dynbackbones.integrations.mmengine.console import QuietRunner
from dynbackbones.integrations.mmengine.last_checkpoint import last_checkpoint, load_resumable
from dynbackbones.integrations.mmengine.training import train as train_runner
from dynbackbones.integrations.pixel_format import warn_of_other_pixels
from dynbackbones.integrations.torchvision import (
    data,
    distributed,
    runner_options,
    solver,
    weights,
)
from dynbackbones.integrations.torchvision.config import load_config
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.torchvision.model import DetectorModel
from dynbackbones.integrations.torchvision.predictor import Predictor as Predictor
from dynbackbones.integrations.torchvision.predictor import load_predictor as load_predictor
from dynbackbones.integrations.zoom import zoom_of_run
from dynbackbones.training import run_folder
from dynbackbones.training.run_lock import locked

_NO_LAST = "write the name of the one to continue from into it, or name another folder"
def setup(config_file: str, opts: Sequence[str] = ()) -> CfgNode:
    """The config of a run; see `load_config`."""
    return load_config(config_file, opts)


def main(cfg: CfgNode, launch: Launch) -> None:
    """Trains or evaluates; results go to ``OUTPUT_DIR``.

    Args:
        cfg: of `setup`.
        launch: how the run is started.

    Raises:
        UserError: the input is at fault.
    """
    if not launch.eval_only:
        check_policy_training(cfg, launch.processes)
        run_folder.check_output_folder(cfg.OUTPUT_DIR, resume=launch.resume)
    if cfg.SOLVER.IMS_PER_BATCH % launch.processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} cannot be divided among "
            f"{launch.processes} processes; make it a multiple"
        )
    if launch.eval_only:
        distributed.start(evaluate, cfg, launch)
        return
    with locked(cfg.OUTPUT_DIR) if launch.machine_rank == 0 else nullcontext():
        distributed.start(train, cfg, launch)


def train(cfg: CfgNode, launch: Launch) -> None:
    """Trains one process's part, evaluates, and writes weights and results."""
    read_safely()
    resume_from = last_checkpoint(cfg.OUTPUT_DIR, _NO_LAST) if launch.resume else None
    checkpoint = _load_resumable(resume_from) if resume_from else None
    seed = _seed(cfg, checkpoint)
    known = classes_in(cfg, checkpoint, resume_from) if checkpoint is not None else None
    training = data.training_set(cfg, seed, known)
    evaluation = data.evaluation_set(cfg, training.classes)
    set_random_seed(seed)
    detector = _detector(cfg)
    if checkpoint is not None:
        state = {f"{DETECTOR_PREFIX}{k}": v for k, v in detector.state_dict().items()}
        checkpoints.check_architecture(state, checkpoint["state_dict"], resume_from)
    elif cfg.MODEL.WEIGHTS:
        weights.load_weights(detector, cfg.MODEL.WEIGHTS, _console(launch))
        content = checkpoints.load(cfg.MODEL.WEIGHTS)
        warn_of_other_pixels(content, cfg.MODEL.WEIGHTS, cfg.INPUT.FORMAT, _console(launch))
    output_dir = Path(cfg.OUTPUT_DIR)
    output_dir.mkdir(parents=True, exist_ok=True)
    if get_rank() == 0:
        (output_dir / "config.yaml").write_text(cfg.dump(), encoding="utf-8")

    model = _model(cfg, detector)
    optimizer = solver.build_optimizer(cfg, model)
    runner = _runner_type(launch)(
        _wrapped(model),
        cfg.OUTPUT_DIR,
        train_dataloader=runner_options.training_loader(cfg, training, seed),
        train_cfg={
            "type": TrainLoop,
            "max_iters": cfg.SOLVER.MAX_ITER,
            "val_interval": cfg.TEST.EVAL_PERIOD or cfg.SOLVER.MAX_ITER,
        },
        optim_wrapper=optimizer,
        param_scheduler=[solver.build_schedule(cfg, optimizer)],
        **runner_options.evaluation_options(cfg, evaluation),
        **runner_options.common_options(cfg, seed, launch),
        load_from=resume_from,
        resume=resume_from is not None,
    )
    runner.logger.info(f"Config:\n{cfg.dump()}")
    train_runner(runner)


def evaluate(cfg: CfgNode, launch: Launch) -> None:
    """Evaluates one process's part and writes the results.

    The weights are ``MODEL.WEIGHTS``; with ``--resume``, or where that is empty, those that the
    run in ``OUTPUT_DIR`` ended with.

    Raises:
        UserError: there is nothing to evaluate, or nothing to evaluate on.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST names no dataset to evaluate on")
    path = last_checkpoint(cfg.OUTPUT_DIR, _NO_LAST) if launch.resume else None
    path = path or weights.weights_path(cfg)
    detector = _detector(cfg)
    weights.load_weights(detector, path, _console(launch), whole=True)
    dataset = data.evaluation_set(cfg, classes_of_weights(cfg, path))
    runner = _runner_type(launch)(
        _wrapped(_model(cfg, detector)),
        cfg.OUTPUT_DIR,
        **runner_options.evaluation_options(cfg, dataset),
        **runner_options.common_options(cfg, 0, launch),
    )
    runner.val()


class DetectionRunner(CheckedRunner):
    """mmengine's Runner for models that are already where they belong."""

    def wrap_model(self, model_wrapper_cfg, model):
        """Nothing: `MODEL.DEVICE` decides, and the engine has wrapped what needs it."""
        return model

    def dump_config(self) -> None:
        """Nothing: the engine writes ``config.yaml``."""


class QuietDetectionRunner(QuietRunner, DetectionRunner):
    """The same, whose console shows what a person reads."""


class TrainLoop(IterBasedTrainLoop):
    """mmengine's loop, with data by position and an evaluation at the end.

    mmengine resumes by drawing the data of all earlier iterations again, or not at all.
    """

    def run(self) -> torch.nn.Module:
        self.dataloader.batch_sampler.start = self._iter
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        for batch in self.dataloader:
            self.runner.model.train()
            self.run_iter(batch)
            due = self._iter % self.val_interval == 0 and self._iter < self.max_iters
            if due and self.runner.val_loop is not None:
                self.runner.val_loop.run()
        self.runner.call_hook("after_train_epoch")
        if self.runner.val_loop is not None:
            self.runner.val_loop.run()
        self.runner.call_hook("after_train")
        return self.runner.model


def _detector(cfg: CfgNode) -> torch.nn.Module:
    detector = build_detector(cfg)
    # SyncBN needs several processes; a single one has nothing to synchronise with.
    return detector if get_world_size() > 1 else revert_sync_batchnorm(detector)


def _model(cfg: CfgNode, detector: torch.nn.Module) -> DetectorModel:
    device = _device(cfg)
    zoom = zoom_of_run(cfg, detector)
    return DetectorModel(detector, zoom and zoom.to(device)).to(device)


def _device(cfg: CfgNode) -> torch.device:
    cuda = cfg.MODEL.DEVICE != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def _wrapped(model: DetectorModel) -> torch.nn.Module:
    if get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    devices = [device.index] if device.type == "cuda" else None
    return MMDistributedDataParallel(
        model,
        device_ids=devices,
        broadcast_buffers=False,
        find_unused_parameters=not model.detector.backbone.complete,
    )


def _seed(cfg: CfgNode, checkpoint: dict | None) -> int:
    """The run's seed, the same in all processes: the config's, the resumed run's, or a new one."""
    if cfg.SEED >= 0:
        return cfg.SEED
    if checkpoint is not None and isinstance(checkpoint.get("meta"), dict):
        return int(checkpoint["meta"].get("seed", 0))
    seed = [secrets.randbelow(2**31)]
    broadcast_object_list(seed)
    return seed[0]


def _load_resumable(path: str) -> dict:
    remedy = (
        "it was not written by the torchvision engine; resume with the engine that wrote it, or "
        "give it as MODEL.WEIGHTS in another OUTPUT_DIR"
    )
    return load_resumable(path, remedy, also_needed=["param_schedulers"])


def _runner_type(launch: Launch) -> type[DetectionRunner]:
    return DetectionRunner if launch.verbose else QuietDetectionRunner


def _console(launch: Launch) -> MMLogger:
    logger = MMLogger.get_instance("dynbackbones")
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            # The instance outlives a run, in a notebook also the output that it was made for.
            handler.stream = sys.stdout
    if not launch.verbose:
        quieten(logger)
    return logger
