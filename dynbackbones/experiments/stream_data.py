"""Trained models and labelled clips for `stream_table`, from the configs of both worlds."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from dynbackbones.checkpoints.classes import trained_classes
from dynbackbones.data.classes import Classes
from dynbackbones.data.images import import_cv2
from dynbackbones.errors import UserError
from dynbackbones.experiments.stream_clips import DetectionClip, LabelledClip, SegmentationClip
from dynbackbones.experiments.zoom_data import ZoomData
from dynbackbones.training.progress import show_time_left
from dynbackbones.video.adapters import Adapter, adapter_of
from dynbackbones.video.frames import frames
from dynbackbones.zoom.segmentation_gains import confusion

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode
    from mmengine.config import Config
    from torch import nn

    from dynbackbones.analysis.survey import Predictor
    from dynbackbones.integrations.engine import Engine


@dataclass(frozen=True)
class Subject:
    """What is compared.

    Attributes:
        adapter: calls the model.
        clip: its test set, whose images are taken for the frames of a video in their order.
        half: outcome of the model at half the resolution, by number and pixels of a frame.
    """

    adapter: Adapter
    clip: LabelledClip
    half: Callable[[int, np.ndarray], Any]


def segmentation(
    cfg: Config, model: nn.Module, content: dict[str, Any], limit: int | None = None
) -> Subject:
    """An mmseg model on the test set of its config.

    Args:
        cfg: the config.
        model: of it, with its weights.
        content: of the file of these, which may say what the classes are.
        limit: leave out all but the first frames.

    Raises:
        UserError: it is none of mmseg's, its classes stand in another order than those of the
            data, or the frames differ in size.
    """
    from dynbackbones.integrations.mmengine.checked_data import build_dataset, classes_of
    from dynbackbones.integrations.openmmlab.checks import check_datasets
    from dynbackbones.integrations.openmmlab.class_agreement import compare_classes
    from dynbackbones.integrations.openmmlab.video_segmentor import with_config

    with_config(model, cfg)
    check_datasets(cfg, ("test_dataloader",))
    dataset = build_dataset(cfg.test_dataloader.dataset, "test_dataloader")
    names = trained_classes(content)
    known = Classes(names, "the checkpoint") if names else None
    warning = compare_classes(classes_of(dataset), known, "the test set")
    if warning:
        logging.getLogger("dynbackbones").warning(warning)
    count = min(len(dataset), limit or len(dataset))
    # In the order of the names, as frames of a video are.
    order = sorted(range(len(dataset)), key=lambda i: dataset.get_data_info(i)["img_path"])[:count]
    pictures, truth = [], []
    for index in show_time_left(order, count, "label map"):
        (frame,) = frames(dataset.get_data_info(index)["img_path"])
        pictures.append(frame.image)
        truth.append(dataset[index]["data_samples"].gt_sem_seg.data[0])
    _check_sizes(pictures)
    classes = max(2, int(model.out_channels))
    clip = SegmentationClip(
        pictures, truth, classes, lambda result: result.pred_sem_seg.data[0].cpu().long()
    )
    adapter = adapter_of(model)

    def half(index: int, image: np.ndarray) -> torch.Tensor:
        logits = adapter.run(_halved(image))[0].seg_logits.data
        large = F.interpolate(logits[None], image.shape[:2], mode="bilinear")[0]
        labels = large.argmax(dim=0) if len(large) > 1 else (large[0] > 0.5).long()
        return confusion(labels.cpu(), truth[index], classes)

    return Subject(adapter, clip, half)


def detection(
    cfg: CfgNode, engine: Engine, predictor: Predictor, limit: int | None = None
) -> Subject:
    """A detector of a YAML config on the first of its ``DATASETS.TEST``.

    Args:
        cfg: the config, with ``MODEL.WEIGHTS``.
        engine: that builds it.
        predictor: that it has built.
        limit: leave out all but the first frames.

    Raises:
        UserError: there is no dataset, or its images differ in size.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name the clip's dataset")
    data = ZoomData(cfg, cfg.DATASETS.TEST[0], 0, limit)
    pictures = [data.pixels(number) for number in data.numbers]
    _check_sizes(pictures)
    clip = DetectionClip(pictures, data.annotations, data.numbers, data.category_ids)
    smaller = copy.deepcopy(cfg)
    smaller.defrost()
    for key in ("MIN_SIZE_TEST", "MAX_SIZE_TEST"):
        smaller.INPUT[key] = smaller.INPUT[key] // 2
    smaller.freeze()
    half = engine.load_predictor(smaller)
    return Subject(adapter_of(predictor), clip, lambda _, image: half.predict(image))


def _halved(image: np.ndarray) -> np.ndarray:
    cv2 = import_cv2()
    height, width = image.shape[:2]
    size = max(1, width // 2), max(1, height // 2)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _check_sizes(pictures: list[np.ndarray]) -> None:
    sizes = {picture.shape[:2] for picture in pictures}
    if len(sizes) > 1:
        first, second = sorted(sizes)[:2]
        raise UserError(
            f"the test set has images of {len(sizes)} sizes, such as {first} and {second}, which "
            "is no clip: name a dataset of one video's frames"
        )
