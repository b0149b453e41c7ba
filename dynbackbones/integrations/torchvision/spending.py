"""The spending curve of a trained detector: accuracy and time over a range of rates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.errors import UserError
from dynbackbones.inference.calibration import backbone_inputs, calibrate
from dynbackbones.integrations.datasets import classes_of_weights
from dynbackbones.integrations.torchvision import data
from dynbackbones.integrations.torchvision.evaluation import DetectionMetric
from dynbackbones.integrations.torchvision.model import DetectorModel


@dataclass(frozen=True)
class SpendingPoint:
    """What a detector does at one rate.

    Attributes:
        target: rate that was asked for.
        rate: activation rate or block usage over the evaluation set.
        ap: average precision in percent.
        ap50: at an intersection over union of 0.5.
        gmacs: 10^9 multiply-accumulates of the backbone, mean over the images.
        seconds: of the whole detector for an image, median.
    """

    target: float
    rate: float
    ap: float
    ap50: float
    gmacs: float
    seconds: float


@torch.no_grad()
def spending_curve(
    cfg: CfgNode,
    detector: nn.Module,
    rates: Sequence[float],
    *,
    calibration_images: int = 16,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[SpendingPoint]:
    """Calibrates a trained detector for each rate and evaluates it, without training it.

    The rates take turns image by image, so that a busy machine hits all alike.

    Args:
        cfg: of `load_config`.
        detector: of `build_detector`, with trained weights; its thresholds end at the last rate.
        rates: to calibrate for, on the first images of ``DATASETS.TRAIN``.
        calibration_images: how many of them.
        progress: wraps the sequence of evaluation images, for example to display it.

    Raises:
        UserError: there is no dataset to evaluate on, or the backbone is a static one.
    """
    evaluation = data.evaluation_set(cfg, classes_of_weights(cfg, cfg.MODEL.WEIGHTS))
    if evaluation is None:
        raise UserError("DATASETS.TEST names no dataset to evaluate on")
    (backbone,) = find_backbones(detector)
    if not isinstance(backbone, DynamicBackbone):
        raise UserError(
            f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME} decides nothing: it has no rate to set"
        )
    model = DetectorModel(detector.eval())
    images = _backbone_inputs(cfg, model, backbone, calibration_images)
    settings = []
    for rate in rates:
        calibrate(backbone, images, target_rate=rate)
        settings.append([value.clone() for value in backbone.thresholds()])

    metrics = [DetectionMetric(evaluation.annotations, evaluation.category_ids) for _ in rates]
    seconds: list[list[float]] = [[] for _ in rates]
    for index in progress(range(len(evaluation))):
        batch = data.collate([evaluation[index]])
        for metric, times, values in zip(metrics, seconds, settings, strict=True):
            for threshold, value in zip(backbone.thresholds(), values, strict=True):
                threshold.copy_(value)
            start = time.perf_counter()
            found = model(batch["images"], batch["targets"], mode="predict")
            times.append(time.perf_counter() - start)
            metric.process(batch, found)
    return [
        _point(backbone.decisions.rate_name, *parts)
        for parts in zip(rates, metrics, map(statistics.median, seconds), strict=True)
    ]


def _backbone_inputs(
    cfg: CfgNode, model: DetectorModel, backbone: DynamicBackbone, count: int
) -> list[Tensor]:
    """What the backbone sees of the first training images, without padding."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = cfg.DATASETS.TRAIN
    training = data.evaluation_set(cfg, None)
    if training is None:
        raise UserError("DATASETS.TRAIN names no dataset to calibrate on")

    def run(index: int) -> None:
        batch = data.collate([training[index]])
        model(batch["images"], batch["targets"], mode="predict")

    indices = range(min(count, len(training)))
    return backbone_inputs(backbone, [partial(run, index) for index in indices])


def _point(rate_name: str, target: float, metric: DetectionMetric, seconds: float) -> SpendingPoint:
    values = metric.compute_metrics(metric.results)
    rate, gmacs = values[f"backbone/{rate_name}"], values["backbone/gmacs"]
    return SpendingPoint(target, rate, values["bbox/AP"], values["bbox/AP50"], gmacs, seconds)


def spending_table(points: Sequence[SpendingPoint]) -> str:
    """The figures as text, a line for each rate."""
    lines = [f"{'asked':>6}{'rate':>8}{'AP':>8}{'AP50':>8}{'GMACs':>9}{'median ms':>11}"]
    lines += [
        f"{p.target:>6.2f}{p.rate:>8.3f}{p.ap:>8.2f}{p.ap50:>8.2f}{p.gmacs:>9.3f}"
        f"{1e3 * p.seconds:>11.1f}"
        for p in points
    ]
    return "\n".join(lines)
