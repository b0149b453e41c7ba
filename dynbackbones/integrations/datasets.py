"""The datasets of a YAML config, and what its weights take their classes for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from fvcore.common.config import CfgNode

from dynbackbones import checkpoints
from dynbackbones.checkpoints.classes import trained_classes
from dynbackbones.data import coco
from dynbackbones.data.classes import Classes
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import num_classes


def find_dataset(cfg: CfgNode, name: str) -> coco.CocoSource:
    """The files of a dataset of ``DATASETS.TRAIN`` or ``TEST``.

    Raises:
        UserError: see `dynbackbones.data.coco.resolve`.
    """
    source = coco.resolve(name, cfg.DATASETS.COCO_FORMAT)
    return dataclasses.replace(source, anywhere=cfg.DATASETS.IMAGES_ANYWHERE)


def no_boxes(names: Iterable[str]) -> UserError:
    """The error for training sets without a box outside of crowds."""
    return UserError(
        f"{', '.join(names)}: no image has a box; set DATALOADER.FILTER_EMPTY_ANNOTATIONS False to "
        "train on background alone"
    )


def classes_of_weights(cfg: CfgNode, path: str) -> Classes | None:
    """What a trained detector's outputs stand for.

    Args:
        cfg: the config that it is built from.
        path: of its weights; only a local file is looked into.

    Returns:
        What the file says, else the classes of the config's training set, else None.

    Raises:
        UserError: the file cannot be read.
    """
    # detectron2's addresses end with what it should do with the file.
    file = path.partition("?")[0]
    content = checkpoints.load(file) if file and "://" not in file else {}
    return classes_in(cfg, content, path) or _classes_of_training(cfg)


def classes_in(cfg: CfgNode, checkpoint: Mapping[str, Any], path: str) -> Classes | None:
    """What a file says of the classes of a config's detector; None if nothing."""
    names = trained_classes(checkpoint)
    # Another number is a classifier's, of which the detector has the backbone alone.
    if names is None or len(names) != num_classes(cfg):
        return None
    return Classes(names, f"checkpoint {path}")


def _classes_of_training(cfg: CfgNode) -> Classes | None:
    """The classes of the config's training set, if it is here and has as many as the detector."""
    for name in cfg.DATASETS.TRAIN[:1]:
        try:
            names = coco.read_class_names(find_dataset(cfg, name))
        except UserError:
            return None
        if len(names) == num_classes(cfg):
            return Classes(names, name)
    return None
