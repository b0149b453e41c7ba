"""What mmengine's Runner is made of for a detector: data, hooks, logs and seeds."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from mmengine.dist import get_rank, get_world_size
from mmengine.evaluator import Evaluator
from mmengine.hooks import IterTimerHook, LoggerHook, ParamSchedulerHook
from mmengine.runner import LogProcessor
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer
from torch.utils.data import DataLoader

from dynbackbones.integrations.engine import Launch
from dynbackbones.integrations.mmengine.console import ConsoleHook
from dynbackbones.integrations.mmengine.decision_log import DecisionLogHook
from dynbackbones.integrations.mmengine.results import ResultsHook
from dynbackbones.integrations.mmengine.resume import RandomStateHook
from dynbackbones.integrations.mmengine.schedules import ScheduleHook
from dynbackbones.integrations.mmengine.whole_checkpoints import WholeCheckpointHook
from dynbackbones.integrations.torchvision import data
from dynbackbones.integrations.torchvision.evaluation import DetectionMetric, group_by_prefix
from dynbackbones.integrations.torchvision.final_weights import FinalWeightsHook
from dynbackbones.integrations.torchvision.sampling import TrainingBatches
from dynbackbones.training import report
from dynbackbones.training.results import RESULTS, TEST_RESULTS

LOG_INTERVAL = 20
# Averaged over the log interval; other values, such as the learning rate, are the latest.
_AVERAGED = r".*(loss|time|rate|usage|gmacs).*"


def training_loader(cfg: CfgNode, dataset: data.CocoDetection, seed: int) -> DataLoader:
    """The batches of a whole training, this process's part of each."""
    batches = TrainingBatches(
        len(dataset),
        cfg.SOLVER.IMS_PER_BATCH,
        cfg.SOLVER.MAX_ITER,
        seed,
        groups=dataset.wide if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None,
        rank=get_rank(),
        world_size=get_world_size(),
    )
    return DataLoader(dataset, batch_sampler=batches, **_loader_options(cfg))


def evaluation_options(cfg: CfgNode, dataset: data.CocoDetection | None) -> dict:
    """Data and metric of a validation, as the Runner takes them; none without a dataset."""
    if dataset is None:
        return {}
    # One image at a time, as in detectron2; a process takes every world_size-th one.
    share = range(get_rank(), len(dataset), get_world_size())
    loader = DataLoader(dataset, batch_size=1, sampler=share, **_loader_options(cfg))
    metric = DetectionMetric(dataset.annotations, dataset.category_ids)
    return {"val_dataloader": loader, "val_cfg": {}, "val_evaluator": Evaluator([metric])}


def _loader_options(cfg: CfgNode) -> dict:
    return {
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "collate_fn": data.collate,
        # Its own: iterating must not draw from the generator that training draws from.
        "generator": torch.Generator(),
    }


def common_options(cfg: CfgNode, seed: int, launch: Launch) -> dict:
    """Hooks, logs and seeds, as the Runner takes them."""
    datasets = {"train": ", ".join(cfg.DATASETS.TRAIN), "val": ", ".join(cfg.DATASETS.TEST)}
    period = cfg.SOLVER.CHECKPOINT_PERIOD
    name = f"{Path(cfg.OUTPUT_DIR).name}-{uuid.uuid4().hex[:8]}"
    logs = Path(cfg.OUTPUT_DIR) / "logs"
    backends = [LocalVisBackend(os.fspath(logs)), TensorboardVisBackend(os.fspath(logs))]
    return {
        "default_hooks": {
            "timer": IterTimerHook(),
            "logger": LoggerHook(interval=LOG_INTERVAL, log_metric_by_epoch=False),
            "param_scheduler": ParamSchedulerHook(),
            "checkpoint": WholeCheckpointHook(interval=period, by_epoch=False),
            "sampler_seed": None,
        },
        "custom_hooks": [
            RandomStateHook(),
            ScheduleHook(),
            DecisionLogHook(LOG_INTERVAL),
            FinalWeightsHook(cfg.dump()),
            ResultsHook(
                group_by_prefix, report.table, TEST_RESULTS if launch.eval_only else RESULTS
            ),
            ConsoleHook(
                "torchvision engine", datasets, group_by_prefix, progress=not launch.verbose
            ),
        ],
        "log_processor": LogProcessor(LOG_INTERVAL, by_epoch=False, mean_pattern=_AVERAGED),
        "visualizer": Visualizer.get_instance(name, vis_backends=backends),
        "experiment_name": name,
        "randomness": {"seed": seed, "diff_rank_seed": True},
        "env_cfg": {"cudnn_benchmark": cfg.CUDNN_BENCHMARK},
        "launcher": "pytorch" if get_world_size() > 1 else "none",
    }
