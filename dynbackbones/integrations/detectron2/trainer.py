"""detectron2's default trainer with a dynamic backbone."""

import logging
import os
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dynbackbones.backbones.base import find_backbones
from dynbackbones.integrations.config import learns_policy, lr_factors, reward_options
from dynbackbones.integrations.console import TO_CONSOLE
from dynbackbones.integrations.detectron2.attach import attach
from dynbackbones.integrations.detectron2.checkpointer import CheckedCheckpointer
from dynbackbones.integrations.detectron2.datasets import CheckedMapper
from dynbackbones.integrations.detectron2.evaluation import BackboneCostEvaluator
from dynbackbones.integrations.detectron2.hooks import (
    ActivationRatePrinter,
    DynamicBackboneHook,
    StopHook,
)
from dynbackbones.integrations.zoom import zoom_of_run
from dynbackbones.training import report
from dynbackbones.training.auxiliary import own_parameters
from dynbackbones.training.faults import diverged, named_faults
from dynbackbones.training.policy import attach_policy_training, one_image_loss
from dynbackbones.training.results import RESULTS, write_results
from dynbackbones.training.stopping import StopRequest


class Trainer(DefaultTrainer):
    """Trains and evaluates a detector as detectron2's default trainer does, and besides

    - collects the backbone's auxiliary losses, drives its schedules and logs its decisions;
    - trains a policy where ``POLICY_TRAINING`` of the backbone's node says so;
    - reports what the backbone cost per image, and writes ``results.json``;
    - checks every checkpoint before it is loaded, and names images that cannot be read;
    - stops where it diverges, and with a checkpoint when Ctrl-C or SIGTERM comes.
    """

    results_file = RESULTS

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = super().build_model(cfg)
        if find_backbones(model):  # the plain baselines are detectron2's own
            attach(model)
        if learns_policy(cfg):
            attach_policy_training(model, one_image_loss, reward_options(cfg))
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        optimizer = super().build_optimizer(cfg, model)
        factors = lr_factors(cfg)
        for name, parameters in own_parameters(model).items():
            scale_lr(optimizer, parameters, factors.get(name, 1.0))
        return optimizer

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        return build_detection_train_loader(cfg, mapper=CheckedMapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        mapper = CheckedMapper(cfg, is_train=False)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    def build_hooks(self) -> list[HookBase]:
        # The base class calls this right after making a checkpointer, which its hooks keep.
        self.checkpointer = CheckedCheckpointer(
            self.model, self.cfg.OUTPUT_DIR, allow_other_heads=True, trainer=weakref.proxy(self)
        )
        classes = MetadataCatalog.get(self.cfg.DATASETS.TRAIN[0]).get("thing_classes")
        if classes:
            self.checkpointer.meta["classes"] = list(classes)
        # First, so that it reads the decisions of the step before an evaluation replaces them.
        return [DynamicBackboneHook(self.model), *super().build_hooks()]

    def build_writers(self) -> list[EventWriter]:
        return [*super().build_writers(), ActivationRatePrinter(self.model)]

    def run_step(self) -> None:
        try:
            super().run_step()
        except FloatingPointError as error:
            # detectron2's, before the step is made. Its last line names the losses.
            losses = str(error).splitlines()[-1]
            raise diverged(self.cfg.OUTPUT_DIR, self.iter + 1, losses) from error

    def train(self) -> dict[str, Any] | None:
        """Trains, and ends well, however it ends.

        Raises:
            UserError: it diverged, the disk is full, or a process that loads data died.
            Stopped: Ctrl-C or SIGTERM came, and a checkpoint was written.
        """
        folder = self.cfg.OUTPUT_DIR
        with StopRequest(folder) as request, named_faults(folder):
            stop = StopHook(request, self.checkpointer)
            self.register_hooks([stop])
            with stop.ends_evaluations(self.model):
                return super().train()

    def resume_or_load(self, resume: bool = True) -> None:
        # A run's own checkpoint fits exactly; only weights to start from may have other heads.
        self.checkpointer.allow_other_heads = not (resume and self.checkpointer.has_checkpoint())
        super().resume_or_load(resume)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: list[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        unwrapped = model.module if isinstance(model, DistributedDataParallel) else model
        zoom = zoom_of_run(cfg, unwrapped)
        model = model if zoom is None else zoom.to(cfg.MODEL.DEVICE)
        if evaluators is None:
            evaluators = [cls._evaluator(cfg, model, name) for name in cfg.DATASETS.TEST]
        results = super().test(cfg, model, evaluators)
        if comm.is_main_process():
            write_results(results, os.path.join(cfg.OUTPUT_DIR, cls.results_file))
            table = report.table(results)
            logging.getLogger("dynbackbones").info(f"evaluation\n{table}", extra=TO_CONSOLE)
        return results

    @classmethod
    def _evaluator(cls, cfg: CfgNode, model: nn.Module, dataset_name: str) -> DatasetEvaluator:
        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        detection = COCOEvaluator(dataset_name, output_dir=folder)
        return DatasetEvaluators([detection, BackboneCostEvaluator(model)])


def scale_lr(
    optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], factor: float
) -> None:
    """Multiplies the learning rate of some parameters.

    Call it before the learning-rate scheduler is made, which keeps the rates that it finds.

    Args:
        optimizer: its groups are split where they hold some of the parameters.
        parameters: that learn at another rate, perhaps none.
        factor: of the learning rate; 1 changes nothing.
    """
    scaled = {id(parameter) for parameter in parameters}
    if factor == 1 or not scaled:
        return
    for group in list(optimizer.param_groups):
        own = [p for p in group["params"] if id(p) in scaled]
        if own:
            group["params"] = [p for p in group["params"] if id(p) not in scaled]
            optimizer.add_param_group({**group, "params": own, "lr": group["lr"] * factor})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
