"""What is looked at before a run of mmengine's starts, so that mistakes end in one line."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import (
    is_cuda_available,
    is_mlu_available,
    is_musa_available,
    is_npu_available,
)
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    MODELS,
    TRANSFORMS,
    init_default_scope,
)
from torch import nn

from dynbackbones import checkpoints
from dynbackbones.adaptation import StyleGenerator, build_generator
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.checked_data import datasets_in, type_name
from dynbackbones.integrations.mmengine.config_file import read_config
from dynbackbones.integrations.openmmlab.head_checks import check_classes, check_heads
from dynbackbones.integrations.openmmlab.weights import check_backbones
from dynbackbones.integrations.shipped_configs import find_config

OURS = "dynbackbones."
ADAPTER = "dynbackbones.integrations.openmmlab"
# What Python and mmengine's registries say about options and types that do not exist.
_WRONG_CONFIG = re.compile(
    "unexpected keyword argument|required .*argument|registry|contain the key"
)
_DETECTRON2_KEY = re.compile("^(_BASE_|MODEL|DATASETS|SOLVER):", re.MULTILINE)
_DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def load_config(path: str | os.PathLike) -> Config:
    """Reads a config and checks that it will build outside this package's tools too.

    Raises:
        UserError: there is no such file, it is not a config, or ``custom_imports`` is missing.
    """
    path = Path(find_config(path))
    if not path.is_file():
        raise UserError(f"config {path} does not exist; check the path")
    if path.suffix in (".yaml", ".yml") and _DETECTRON2_KEY.search(path.read_text("utf-8")):
        raise UserError(
            f"config {path} is in detectron2's form, and one of mmengine's is wanted here; it goes "
            "with dynbackbones train-net"
        )
    try:
        cfg = read_config(path)
    except Exception as error:  # a config is Python: anything may happen
        first = (str(error).splitlines() or [""])[0]
        raise UserError(f"config {path} cannot be read: {type(error).__name__}: {first}") from error
    _check_imports(cfg, path)
    return cfg


def _check_imports(cfg: Config, path: Path) -> None:
    """Makes sure that a config imports what registers the types of this package that it uses."""
    imports = (cfg.get("custom_imports") or {}).get("imports") or []
    imports = [imports] if isinstance(imports, str) else imports
    # Whatever module of the adapter is imported, the adapter itself is imported before.
    if any(f"{name}.".startswith(f"{ADAPTER}.") for name in imports):
        return
    missing = sorted(
        kind
        for kind, module in {kind: _module_of(kind) for kind in _types(cfg.to_dict())}.items()
        if module.startswith(OURS) and module not in imports
    )
    if missing:
        raise UserError(
            f"config {path} uses {', '.join(missing)} without importing them; add the line "
            f'custom_imports = dict(imports=["{ADAPTER}"])'
        )


def check_datasets(cfg: Config, dataloaders: tuple[str, ...] = _DATALOADERS) -> None:
    """Makes sure that the folders and split files that a config names are there.

    Raises:
        UserError: one is missing; names the dataset, the path and the key.
    """
    for loader in dataloaders:
        for dataset in datasets_in((cfg.get(loader) or {}).get("dataset")):
            check_dataset(dataset, f"{loader}: {type_name(dataset)}")
    if "train_dataloader" not in dataloaders:
        return
    for hook in cfg.get("custom_hooks") or []:
        for dataset in datasets_in(hook.get("target_dataset")):
            check_dataset(dataset, f"target_dataset: {type_name(dataset)}")


def check_dataset(dataset: Mapping[str, Any], where: str) -> None:
    """Makes sure that the folders and the split file that a dataset's config names are there.

    Raises:
        UserError: one is missing.
    """
    root = os.fspath(dataset.get("data_root") or "")
    if "://" in root:
        return  # not on this disk
    if root and not Path(root).is_dir():
        raise UserError(
            f"{where}: data_root {root} does not exist; put the dataset (or a link to it) there, "
            "or change data_root"
        )
    prefix = dataset.get("data_prefix") or {}
    # mmpretrain takes a text for {"img_path": text}.
    named = {} if isinstance(prefix, str) else prefix
    folders = {f"data_prefix.{key}": value for key, value in named.items()}
    if isinstance(prefix, str):
        folders["data_prefix"] = prefix
    for key, value in folders.items():
        if isinstance(value, str) and "://" not in value:
            folder = Path(root, os.path.expanduser(value))
            if not folder.is_dir():
                raise UserError(f"{where}: the folder {folder} of {key} does not exist")
    if isinstance(dataset.get("ann_file"), str) and dataset["ann_file"]:
        file = Path(root, dataset["ann_file"])
        if not file.exists():
            raise UserError(f"{where}: the split file {file} of ann_file does not exist")


def check_precision(cfg: Config) -> None:
    """Makes sure that mixed precision, if a config asks for it, has a device that can do it.

    Raises:
        UserError: it has none.
    """
    devices = is_cuda_available(), is_npu_available(), is_mlu_available(), is_musa_available()
    if "AmpOptimWrapper" in _types(cfg.to_dict().get("optim_wrapper")) and not any(devices):
        raise UserError(
            "optim_wrapper.type AmpOptimWrapper needs a CUDA device, and there is none; set it to "
            "OptimWrapper"
        )


def check_model(cfg: Config, checkpoint: str | None, *, whole: bool) -> None:
    """Builds the model once, to find what is wrong with it before anything is written.

    Args:
        cfg: config of a run.
        checkpoint: file that the run starts from, or None.
        whole: the checkpoint must fit the whole model, not only its backbones.

    Raises:
        UserError: an option of the model is wrong, a head does not fit the backbone or the labels,
            or the checkpoint is of another model.
    """
    model = build_model(cfg)
    check_heads(model)
    for transform in _transforms(cfg.to_dict(), "CheckLabels"):
        if "num_classes" in transform:
            check_classes(model, transform["num_classes"], "CheckLabels.num_classes")
    if checkpoint is None:
        return
    state = checkpoints.state_dict_of(checkpoints.load(checkpoint), checkpoint)
    if whole:
        checkpoints.check_architecture(model.state_dict(), state, checkpoint)
    else:
        check_backbones(model, state, checkpoint)


def check_generators(cfg: Config) -> None:
    """Builds the style generators of DCAN once, to find what is wrong with them or their files.

    Raises:
        UserError: see `build_style_generator`.
    """
    for hook in cfg.get("custom_hooks") or []:
        if hook.get("type") == "DCANHook" and hook.get("generator") is not None:
            build_style_generator(hook["generator"])


def build_style_generator(options: Mapping[str, Any]) -> StyleGenerator:
    """A generator from the options in a config.

    Raises:
        UserError: there is no such option; for others, and for weights, see `build_generator`.
    """
    try:
        return build_generator(**options)
    except TypeError as error:
        raise UserError(f"DCANHook's generator cannot be built: {error}") from error


def build_model(cfg: Config) -> nn.Module:
    """The model of a config, in its registry's scope.

    Raises:
        UserError: there is none, or an option of it is wrong.
    """
    if cfg.get("model") is None:
        raise UserError("the config has no model; there is nothing to train or test")
    init_default_scope(cfg.get("default_scope") or "mmengine")
    try:
        return MODELS.build(copy.deepcopy(cfg.model))
    except (KeyError, TypeError, ValueError) as error:
        reason = wrong_config(error)
        if reason is None:
            raise
        reason += _remedy(cfg, reason)
        raise UserError(f"the config's model cannot be built: {reason}") from error


def wrong_config(error: Exception) -> str | None:
    """What an error says of a config; None if it is a defect of a program, whose traceback counts.

    Options of no possible value (`ValueError`), and options and types that do not exist.
    """
    text = str(error.args[0]) if error.args else ""
    if not isinstance(error, ValueError) and not _WRONG_CONFIG.search(text):
        return None
    return text.split(". Please check")[0]


def _remedy(cfg: Config, reason: str) -> str:
    """Where a backbone of this package took another's place, options of that one may be left."""
    kind = str((cfg.model.get("backbone") or {}).get("type")).rpartition(".")[2]
    refused = f"{kind}.__init__() got an unexpected keyword argument" in reason
    if not refused or not _module_of(kind).startswith(OURS):
        return ""
    if "'pretrained'" in reason:
        return "; set pretrained=None in the model (init_cfg of the backbone loads weights)"
    return "; if it is of the base config's backbone, add _delete_=True to yours"


def _transforms(value: Any, kind: str) -> Iterator[Mapping[str, Any]]:
    """All dicts of a type anywhere in a config."""
    if isinstance(value, Mapping):
        if type_name(value) == kind:
            yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _transforms(item, kind)


def _types(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if "type" in value:
            yield type_name(value)
        for item in value.values():
            yield from _types(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _types(item)


def _module_of(name: str) -> str:
    """Module of what is registered in mmengine's root registries under a name; empty if nothing."""
    for registry in (MODELS, HOOKS, DATASETS, DATA_SAMPLERS, TRANSFORMS):
        registered = registry.module_dict.get(name)
        if registered is not None:
            return registered.__module__
    return ""
