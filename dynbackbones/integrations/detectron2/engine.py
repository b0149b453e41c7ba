"""Training and evaluation through detectron2, from the same YAML as the torchvision engine."""

import difflib
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_setup
from detectron2.engine import launch as launch_processes
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.registry import Registry
from torch.multiprocessing import ProcessRaisedException

from dynbackbones import checkpoints
from dynbackbones.data.classes import Classes
from dynbackbones.errors import UserError, mistake_in
from dynbackbones.integrations.config import (
    add_dynbackbones_config,
    check_builder,
    check_policy_training,
)
from dynbackbones.integrations.datasets import classes_in, classes_of_weights
from dynbackbones.integrations.detectron2 import console
from dynbackbones.integrations.detectron2.checkpointer import NO_LAST, CheckedCheckpointer
from dynbackbones.integrations.detectron2.datasets import (
    check_datasets,
    register_datasets,
    use_copies,
)
from dynbackbones.integrations.detectron2.predictor import Predictor
from dynbackbones.integrations.detectron2.trainer import Trainer
from dynbackbones.integrations.engine import Launch
from dynbackbones.integrations.user_modules import import_modules
from dynbackbones.integrations.yaml_files import merge_config
from dynbackbones.integrations.zoom import keep_resolution
from dynbackbones.training.results import TEST_RESULTS
from dynbackbones.training.run_folder import check_output_folder, checkpoint_to_resume
from dynbackbones.training.run_lock import locked
from dynbackbones.training.stopping import StopRequest


def setup(config_file: str, opts: Sequence[str] = ()) -> CfgNode:
    """The config of a run, frozen; its data sets are known to detectron2 afterwards.

    Args:
        config_file: path of the YAML.
        opts: ``KEY VALUE KEY VALUE ...``

    Raises:
        UserError: the config is wrong; nothing has been written.
    """
    cfg = get_cfg()
    add_dynbackbones_config(cfg)
    merge_config(cfg, config_file, opts)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    _check_name("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, BACKBONE_REGISTRY)
    _check_name("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, META_ARCH_REGISTRY)
    check_builder(cfg)
    keep_resolution(cfg)
    cfg.freeze()
    register_datasets(cfg)
    return cfg


def main(cfg: CfgNode, launch: Launch) -> None:
    """Trains and writes ``OUTPUT_DIR/results.json``, or evaluates: ``test_results.json``.

    Args:
        cfg: of `setup`.
        launch: how the run is started.

    Raises:
        UserError: the launch, the config, the data or the weights are wrong; nothing has been
            overwritten.
    """
    devices = torch.cuda.device_count()
    if launch.num_gpus > max(devices, 1):
        raise UserError(
            f"--num-gpus is {launch.num_gpus}, but this machine has {devices}; lower it"
        )
    part, aim = ("TEST", "evaluate") if launch.eval_only else ("TRAIN", "train")
    if not cfg.DATASETS[part]:
        raise UserError(f"DATASETS.{part} names no dataset to {aim} on")
    if launch.eval_only:
        _check_has_weights(cfg, launch.resume)
    else:
        check_policy_training(cfg, launch.processes)
        if cfg.SOLVER.AMP.ENABLED and not torch.cuda.is_available():
            raise UserError(
                "SOLVER.AMP.ENABLED needs a CUDA device, and there is none; leave it away"
            )
        check_output_folder(cfg.OUTPUT_DIR, resume=launch.resume)
    names = cfg.DATASETS.TEST if launch.eval_only else cfg.DATASETS.TRAIN + cfg.DATASETS.TEST
    _check_weights(cfg)
    sizes = check_datasets(cfg, names, _known_classes(cfg, launch))
    trains_here = not launch.eval_only and launch.machine_rank == 0
    try:
        with locked(cfg.OUTPUT_DIR) if trains_here else nullcontext():
            _launch(cfg, launch, sizes)
    except ProcessRaisedException as error:
        mistake = mistake_in(str(error))
        if mistake is None:
            raise
        raise UserError(mistake) from error


def _launch(cfg: CfgNode, launch: Launch, sizes: Mapping[str, int]) -> None:
    several = launch.num_gpus > 1
    with StopRequest(cfg.OUTPUT_DIR, forward=True) if several else nullcontext():
        launch_processes(
            _run,
            launch.num_gpus,
            num_machines=launch.num_machines,
            machine_rank=launch.machine_rank,
            dist_url=launch.dist_url,
            args=(cfg, launch, sizes),
        )


def load_predictor(cfg: CfgNode) -> Predictor:
    """A trained detector that runs on single images; see `Predictor`."""
    return Predictor(cfg)


def _run(cfg: CfgNode, launch: Launch, sizes: Mapping[str, int] | None = None) -> None:
    """Trains or evaluates in one of the processes.

    Args:
        cfg: of the run.
        launch: how it is started.
        sizes: numbers of images of its data sets, as far as they are known.
    """
    if comm.get_world_size() > 1:
        # A new process knows neither the user's modules nor datasets beside detectron2's own.
        import_modules(launch.imports)
        register_datasets(cfg)
        use_copies(cfg)
    console.set_up(cfg.OUTPUT_DIR, launch.verbose)
    default_setup(cfg, launch)  # which logs it, and asks for eval_only
    if launch.eval_only:
        model = Trainer.build_model(cfg)
        checkpointer = CheckedCheckpointer(model, cfg.OUTPUT_DIR)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=launch.resume)
        console.print_heading(model, cfg.DATASETS.TEST, sizes, trains=False)
        _Evaluation.test(cfg, model)
    else:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=launch.resume)
        console.print_heading(trainer.model, cfg.DATASETS.TRAIN, sizes, done=trainer.start_iter)
        if not launch.verbose:
            console.print_progress(trainer)
        trainer.train()
    console.print_files(cfg.OUTPUT_DIR)


def _check_name(key: str, name: str, registry: Registry) -> None:
    if name in registry:
        return
    known = [entry for entry, _ in registry]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise UserError(f"{key} {name} is unknown to detectron2; did you mean {nearest}?")


def _check_has_weights(cfg: CfgNode, resume: bool) -> None:
    last = os.path.join(cfg.OUTPUT_DIR, "last_checkpoint")
    if not cfg.MODEL.WEIGHTS and not (resume and os.path.isfile(last)):
        raise UserError(
            f"--eval-only needs a trained model: give MODEL.WEIGHTS, or --resume for the last "
            f"checkpoint in OUTPUT_DIR {cfg.OUTPUT_DIR}"
        )


def _known_classes(cfg: CfgNode, launch: Launch) -> Classes | None:
    """What the outputs of the detector stand for that is evaluated, or trained further."""
    last = checkpoint_to_resume(cfg.OUTPUT_DIR, NO_LAST)[0] if launch.resume else None
    if last is not None:
        return classes_in(cfg, checkpoints.load(last), str(last))
    return classes_of_weights(cfg, cfg.MODEL.WEIGHTS) if launch.eval_only else None


class _Evaluation(Trainer):
    """Evaluates alone: what the training in the same folder ended with stays there."""

    results_file = TEST_RESULTS


def _check_weights(cfg: CfgNode) -> None:
    """Finds unreadable weights before processes start; `CheckedCheckpointer` checks the fit."""
    path = cfg.MODEL.WEIGHTS
    if path and "://" not in path:
        checkpoints.load(PathManager.get_local_path(path.partition("?")[0]))
