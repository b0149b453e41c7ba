"""Whether a classifier's config fits its class folders, before a run starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dynbackbones.data import class_folders
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.checked_data import datasets_in, type_name


def check_class_folders(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Makes sure that the classes of `ImageFolders` are complete and that the head has as many.

    mmpretrain's own ``CustomDataset`` of class folders must have none that it would not mean.

    Args:
        cfg: config of a run; one without such datasets passes.
        dataloaders: keys of those that will be used.

    Raises:
        UserError: classes are missing somewhere, or another number is configured.
    """
    for loader in dataloaders:
        for dataset in datasets_in((cfg.get(loader) or {}).get("dataset")):
            if type_name(dataset) == "ImageFolders":
                _check_folders(cfg, dataset)
            if type_name(dataset) == "CustomDataset" and not dataset.get("ann_file"):
                _check_hidden(dataset)


def _check_hidden(dataset: Mapping[str, Any]) -> None:
    prefix = dataset.get("data_prefix") or ""
    folder = Path(
        dataset.get("data_root") or "", prefix if isinstance(prefix, str) else prefix["img_path"]
    ).expanduser()
    if not dataset.get("with_label", True) or not folder.is_dir():
        return
    hidden = [path.name for path in folder.iterdir() if path.is_dir()]
    hidden = [name for name in hidden if class_folders.is_hidden(name)]
    if hidden:
        raise UserError(
            f"image folder {folder} has the hidden folder {hidden[0]}, which mmpretrain's "
            "CustomDataset takes for a class: remove it, or take ImageFolders"
        )


def _check_folders(cfg: Config, dataset: Mapping[str, Any]) -> None:
    root, source = dataset["data_root"], dataset.get("classes_from", "train")
    classes = class_folders.find_classes(root, source)
    class_folders.check_classes(root, dataset["split"], classes)
    number = len(classes)
    given = ((cfg.get("model") or {}).get("head") or {}).get("num_classes", number)
    if given != number:
        raise UserError(
            f"model.head.num_classes is {given}, but {Path(root, source)} has {number} class "
            f"folders: add --cfg-options model.head.num_classes={number}"
        )
    for evaluator in ("val_evaluator", "test_evaluator"):
        if _most_guesses(cfg.get(evaluator)) > number:
            raise UserError(
                f"{evaluator} asks for top-{_most_guesses(cfg.get(evaluator))} accuracy, but there "
                f"are {number} classes: add --cfg-options {evaluator}.0.topk=1"
            )


def _most_guesses(metrics: Any) -> int:
    """The largest k of the top-k accuracies that an evaluator computes."""
    metrics = [metrics] if isinstance(metrics, Mapping) else metrics or []
    guesses = [1]
    for metric in metrics:
        if type_name(metric) == "Accuracy":
            given = metric.get("topk", 1)
            guesses += given if isinstance(given, list | tuple) else [given]
    return max(guesses)
