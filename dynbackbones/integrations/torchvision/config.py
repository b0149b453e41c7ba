"""Reads a detectron2-style YAML for the torchvision engine and refuses what it cannot honour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fvcore.common.config import CfgNode

from dynbackbones.errors import UserError
from dynbackbones.integrations.config import chosen_backbone, num_classes_key
from dynbackbones.integrations.options import network_of
from dynbackbones.integrations.torchvision import schema
from dynbackbones.integrations.yaml_files import get_key, merge_config
from dynbackbones.integrations.zoom import keep_resolution

# Channels of res2 by depth: a YAML for detectron2 must say 64 for its plain ResNet-18 and -34.
_RES2_CHANNELS = {18: 64, 34: 64, 50: 256, 101: 256}
_POSITIVE = (
    "SOLVER.MAX_ITER",
    "SOLVER.BASE_LR",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.CHECKPOINT_PERIOD",
    "MODEL.FPN.OUT_CHANNELS",
    "TEST.DETECTIONS_PER_IMAGE",
)
_NOT_NEGATIVE = (
    "SOLVER.WARMUP_ITERS",
    "SOLVER.BASE_LR_END",
    "TEST.EVAL_PERIOD",
    "DATALOADER.NUM_WORKERS",
    "MODEL.RETINANET.NUM_CONVS",
    "INPUT.MIN_SIZE_TEST",
)


def load_config(config_file: str, opts: Sequence[str] = ()) -> CfgNode:
    """The config of a run: defaults, then the YAML with its ``_BASE_`` files, then overrides.

    Args:
        config_file: path of the YAML; empty for the defaults.
        opts: ``KEY VALUE KEY VALUE ...``

    Returns:
        A frozen config whose every key this engine honours.

    Raises:
        UserError: a file is missing or is no YAML; a key is unknown (names the nearest one), needs
            detectron2, or has a value of the wrong type or one that this engine cannot honour.
    """
    cfg = schema.get_cfg()
    _allow_detectron2_keys(cfg)
    merge_config(cfg, config_file, opts)
    _refuse_detectron2_keys(cfg)
    _check_choices(cfg, schema.CHOICES)
    _check_model(cfg)
    _check_numbers(cfg)
    _check_datasets(cfg)
    keep_resolution(cfg)
    cfg.freeze()
    return cfg


def _allow_detectron2_keys(cfg: CfgNode) -> None:
    """Adds detectron2's other keys with None, so that merging tells them from misspelt ones."""
    for key in sorted(schema.DETECTRON2_ONLY):
        *parents, name = key.split(".")
        node = cfg
        for parent in parents:
            if parent not in node:
                node[parent] = CfgNode()
            node = node[parent]
        node[name] = None


def _refuse_detectron2_keys(cfg: CfgNode) -> None:
    """Takes detectron2's other keys out again; none may have got a value."""
    for key in sorted(schema.DETECTRON2_ONLY):
        if get_key(cfg, key) is not None:
            raise UserError(
                f"config key {key} needs detectron2: the torchvision engine cannot honour it; "
                "remove the key, or install detectron2"
            )
    for key in sorted(schema.DETECTRON2_ONLY):
        _remove(cfg, key.split("."))


def _remove(node: CfgNode, path: Sequence[str]) -> None:
    if len(path) > 1:
        _remove(node[path[0]], path[1:])
        if node[path[0]]:
            return
    del node[path[0]]


def _check_choices(cfg: CfgNode, choices: Mapping[str, tuple]) -> None:
    for key, allowed in choices.items():
        value = get_key(cfg, key)
        if value not in allowed:
            raise UserError(
                f"{key} {value!r} needs detectron2; the torchvision engine knows "
                f"{', '.join(map(repr, allowed))}"
            )


def _check_model(cfg: CfgNode) -> None:
    model = cfg.MODEL
    retinanet = model.META_ARCHITECTURE == "RetinaNet"
    ends = ("p6p7", "maxpool") if retinanet else ("maxpool", "p6p7")
    own, other = (schema.backbone_names(end) for end in ends)
    _check_choices(cfg, {"MODEL.BACKBONE.NAME": (*own, *other)})
    if model.BACKBONE.NAME in other:
        raise UserError(
            f"MODEL.BACKBONE.NAME {model.BACKBONE.NAME} does not suit {model.META_ARCHITECTURE} "
            f"in the torchvision engine; use {own[other.index(model.BACKBONE.NAME)]}"
        )
    if not retinanet:
        _check_choices(cfg, schema.RCNN_CHOICES)
        if not model.RPN.CONV_DIMS or set(model.RPN.CONV_DIMS) != {-1}:
            raise UserError(
                f"MODEL.RPN.CONV_DIMS {list(model.RPN.CONV_DIMS)} needs detectron2; the "
                "torchvision engine knows -1 (as many channels as the FPN), once per layer"
            )
    if network_of(chosen_backbone(cfg)).holds_resnet:
        depth, channels = model.RESNETS.DEPTH, model.RESNETS.RES2_OUT_CHANNELS
        if channels != _RES2_CHANNELS[depth]:
            raise UserError(
                f"MODEL.RESNETS.RES2_OUT_CHANNELS {channels} does not suit depth {depth}: set it "
                f"to {_RES2_CHANNELS[depth]}"
            )
    absent = [name for name in model.FPN.IN_FEATURES if name not in model.RESNETS.OUT_FEATURES]
    if absent:
        raise UserError(
            f"MODEL.FPN.IN_FEATURES has {', '.join(absent)}, which MODEL.RESNETS.OUT_FEATURES "
            "has not; add it there"
        )
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(model[key]) != 3:
            raise UserError(f"MODEL.{key} must be three numbers, got {list(model[key])}")


def _check_numbers(cfg: CfgNode) -> None:
    for key in _POSITIVE + (num_classes_key(cfg),):
        if get_key(cfg, key) <= 0:
            raise UserError(f"{key} must be positive, got {get_key(cfg, key)}")
    for key in _NOT_NEGATIVE:
        if get_key(cfg, key) < 0:
            raise UserError(f"{key} must not be negative, got {get_key(cfg, key)}")
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    if not sizes or not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise UserError(f"INPUT.MIN_SIZE_TRAIN must be integers of pixels, got {sizes!r}")
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(sizes) != 2:
        raise UserError(
            "INPUT.MIN_SIZE_TRAIN must be (smallest, largest) with "
            f"INPUT.MIN_SIZE_TRAIN_SAMPLING range, got {sizes!r}"
        )


def _check_datasets(cfg: CfgNode) -> None:
    for key in ("TRAIN", "TEST"):
        names = cfg.DATASETS[key]
        if not all(isinstance(name, str) for name in names):
            raise UserError(f"DATASETS.{key} must be names of datasets, got {names!r}")
    if len(cfg.DATASETS.TEST) > 1:
        raise UserError(
            f"DATASETS.TEST names {len(cfg.DATASETS.TEST)} datasets and so needs detectron2; "
            "the torchvision engine evaluates on one"
        )
