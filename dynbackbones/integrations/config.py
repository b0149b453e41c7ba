"""The config options of this package, in detectron2's schema, and what they mean for a network.

Both engines use this file, so it knows config nodes and nothing of detectron2. fvcore's ``CfgNode``
and detectron2's, which derives from it, are both accepted everywhere.
"""

import difflib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml
from fvcore.common.config import CfgNode

from dynbackbones.backbones.blockdrop.resnet import BlockDropResNet
from dynbackbones.backbones.blockdrop.selection import BlockSelection
from dynbackbones.backbones.resnet import LAYOUTS
from dynbackbones.backbones.sar.resnet import SARResNet
from dynbackbones.errors import UserError
from dynbackbones.layers.stem import IMAGENET_STEM_CHANNELS
from dynbackbones.policy.learning import RewardOptions

_logger = logging.getLogger(__name__)
_Thing = TypeVar("_Thing")
_MISSING = object()
_TYPE_REMEDY = "write the value in the form of its default, such as 1.0 for a number with a point"


def add_dynbackbones_config(cfg: CfgNode) -> None:
    """Adds the options of this package, with their defaults, to a detectron2-style config.

    Args:
        cfg: a config with the nodes ``MODEL`` and ``DATASETS``, changed in place.
    """
    node = type(cfg)

    cfg.MODEL.SAR = node()
    # 18, 34, 50 or 101.
    cfg.MODEL.SAR.DEPTH = 50
    # Channel groups of the refinement branch; each has regions of its own. The paper's G.
    cfg.MODEL.SAR.GROUPS = 2
    # How much smaller the base branch's feature maps are: 2 or 4. The paper's s.
    cfg.MODEL.SAR.BASE_SCALE = 2
    # The base branch has 1 / ALPHA of a ResNet's channels, the refinement branch BETA times them.
    cfg.MODEL.SAR.ALPHA = 2
    cfg.MODEL.SAR.BETA = 1
    # Edge of a region in feature pixels, in stages 1, 2 and 3 (res2, res3 and res4).
    cfg.MODEL.SAR.CELL_SIZE = [4, 4, 7]
    # K for the paper's K x K regions per image, whatever its size; 0 for regions of CELL_SIZE.
    cfg.MODEL.SAR.GRID_SIZE = 0
    # Share of the regions to refine, in (0, 1]. The paper's t.
    cfg.MODEL.SAR.TARGET_RATE = 0.5
    # "ramp": from 1 down to TARGET_RATE in three steps over the first half of training, for
    # training from scratch. "constant": for fine-tuning from trained selectors, which a ramp would
    # drag back to rate 1.
    cfg.MODEL.SAR.TARGET_SCHEDULE = "ramp"
    # Gumbel-softmax temperature at the start and the end of training, exponential in between.
    # Fine-tuning from trained selectors wants [0.1, 0.01].
    cfg.MODEL.SAR.TEMPERATURE = [1.0, 0.01]
    # Weight of the activation-rate loss. The paper's lambda.
    cfg.MODEL.SAR.LOSS_WEIGHT = 1.0
    # What meets the target: the rate of the whole "batch" (over all processes) or every "sample"'s.
    cfg.MODEL.SAR.LOSS_REDUCTION = "batch"
    # How much a selector prefers "refine" at first, as a difference of logits. 9 suits schedules of
    # ImageNet's length; runs of a few thousand iterations never leave rate 1 with it and want 2.
    cfg.MODEL.SAR.SELECTOR_MARGIN = 9.0
    # The selectors' learning rate, as a multiple of SOLVER.BASE_LR.
    cfg.MODEL.SAR.SELECTOR_LR_FACTOR = 1.0
    # Norm layers: "BN", "SyncBN", or "FrozenBN" (fixed statistics, so only with MODEL.WEIGHTS).
    cfg.MODEL.SAR.NORM = "BN"
    # Stride of res5: 32; 16 or 8 dilate instead of striding, for segmentation heads without an FPN.
    cfg.MODEL.SAR.OUTPUT_STRIDE = 32
    # Evaluation: "sparse" (skips what is not selected), "masked" (computes all and multiplies), or
    # "auto" (the faster one, by a documented rule). All three give the same features.
    cfg.MODEL.SAR.EXECUTION = "auto"

    # BlockDrop is an ordinary ResNet and a policy network. The ResNet is read from MODEL.RESNETS
    # (DEPTH, NORM, STRIDE_IN_1X1, RES5_DILATION, OUT_FEATURES) as for the plain backbone, so that
    # a detector that was trained with that runs after its MODEL.BACKBONE.NAME was changed.
    cfg.MODEL.BLOCKDROP = node()
    # Short side in pixels that the policy network's image is resized to before it is halved; 0
    # only halves it.
    cfg.MODEL.BLOCKDROP.POLICY_SIZE = 224
    # "frozen", or "reinforce" to learn the policy by reward; see below.
    cfg.MODEL.BLOCKDROP.POLICY_TRAINING = "frozen"
    # Overrides the policy: "all", "none", "first", "distributed" or "random" blocks; "" for none.
    cfg.MODEL.BLOCKDROP.SELECTION = ""
    # Share of the blocks that the last three keep, in [0, 1].
    cfg.MODEL.BLOCKDROP.SELECTION_RATE = 0.5
    # "sparse" (skips what is dropped), "masked" (computes all and chooses), "auto" (sparse).
    cfg.MODEL.BLOCKDROP.EXECUTION = "auto"
    # With POLICY_TRAINING "reinforce" (RetinaNet, one image per process), for each image: reward
    # 1 - (share of blocks)^2 if the detector's loss exceeds that of the full network by no more
    # than the share LOSS_TOLERANCE, else -GAMMA.
    cfg.MODEL.BLOCKDROP.GAMMA = 5.0
    cfg.MODEL.BLOCKDROP.LOSS_TOLERANCE = 0.1
    # Actions are drawn with probabilities in [1 - ALPHA, ALPHA].
    cfg.MODEL.BLOCKDROP.ALPHA = 0.8
    # Rewards undecided policies; the paper does not.
    cfg.MODEL.BLOCKDROP.ENTROPY_WEIGHT = 0.0
    # Share of training in which the number of learned blocks rises from the last one to all; 0
    # learns all from the start.
    cfg.MODEL.BLOCKDROP.CURRICULUM = 0.5
    # Weight of the policy's loss, and its learning rate as a multiple of SOLVER.BASE_LR. At a
    # detector's rate, rewards of several units saturate a policy within a few iterations of SGD.
    cfg.MODEL.BLOCKDROP.LOSS_WEIGHT = 1.0
    cfg.MODEL.BLOCKDROP.POLICY_LR_FACTOR = 0.01

    # Data sets of your own: name -> [annotation file, image folder], both relative to the folder in
    # the environment variable DETECTRON2_DATASETS ("datasets" if not set).
    cfg.DATASETS.COCO_FORMAT = node(new_allowed=True)


def sar_options(cfg: CfgNode) -> dict[str, Any]:
    """Constructor arguments of `SARResNet` from ``MODEL.SAR`` and ``MODEL.BACKBONE.FREEZE_AT``.

    Args:
        cfg: a config with the options of `add_dynbackbones_config`.

    Returns:
        Every argument that a config decides; ``in_channels`` and ``selection`` are the caller's.

    Raises:
        UserError: something is frozen although there are no weights; see `check_frozen`.
    """
    sar = cfg.MODEL.SAR
    check_frozen(cfg, norm_key="MODEL.SAR.NORM")
    depth = get_key(cfg, "MODEL.RESNETS.DEPTH", sar.DEPTH)
    # 50 is what a config has that says nothing.
    if depth not in (50, sar.DEPTH):
        _logger.warning(
            "building SAR-ResNet-%d, as MODEL.SAR.DEPTH says; MODEL.RESNETS.DEPTH %d is for other "
            "backbones",
            sar.DEPTH,
            depth,
        )
    return {
        "depth": sar.DEPTH,
        "groups": sar.GROUPS,
        "base_scale": sar.BASE_SCALE,
        "alpha": sar.ALPHA,
        "beta": sar.BETA,
        "cell_size": tuple(sar.CELL_SIZE),
        "grid_size": sar.GRID_SIZE or None,
        "target_rate": sar.TARGET_RATE,
        "target_schedule": sar.TARGET_SCHEDULE,
        "temperature": tuple(sar.TEMPERATURE),
        "loss_weight": sar.LOSS_WEIGHT,
        "loss_reduction": sar.LOSS_REDUCTION,
        "selector_margin": sar.SELECTOR_MARGIN,
        "output_stride": sar.OUTPUT_STRIDE,
        "norm": sar.NORM,
        "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
        "execution": sar.EXECUTION,
    }


def build_sar_resnet(cfg: CfgNode, in_channels: int = 3) -> SARResNet:
    """Builds the SAR-ResNet that a config describes.

    Args:
        cfg: a config with the options of `add_dynbackbones_config`.
        in_channels: channels of the images.

    Raises:
        UserError: an option has a value that the network does not take, or something is frozen
            although there are no weights.
    """
    options = sar_options(cfg)
    return _built("MODEL.SAR", lambda: SARResNet(in_channels=in_channels, **options))


def blockdrop_options(cfg: CfgNode) -> dict[str, Any]:
    """Constructor arguments of `BlockDropResNet` from a config.

    ``MODEL.RESNETS`` says which ResNet it is, as for detectron2's own; ``MODEL.BLOCKDROP`` has the
    rest.

    Args:
        cfg: a config with the options of `add_dynbackbones_config`.

    Returns:
        Every argument that a config decides; ``in_channels`` is the caller's.

    Raises:
        UserError: the ResNet is one that `BlockDropResNet` cannot be, or something is frozen
            although there are no weights; see `check_frozen`.
    """
    blockdrop, resnets = cfg.MODEL.BLOCKDROP, cfg.MODEL.RESNETS
    check_frozen(cfg, norm_key="MODEL.RESNETS.NORM")
    _check_plain_resnet(cfg)
    dilated = resnets.RES5_DILATION == 2
    selection = None
    if blockdrop.SELECTION:
        selection = _built(
            "MODEL.BLOCKDROP.SELECTION",
            lambda: BlockSelection(blockdrop.SELECTION, blockdrop.SELECTION_RATE),
        )
    return {
        "depth": resnets.DEPTH,
        "output_stride": 16 if dilated else 32,
        "dilate_first": dilated,
        "norm": resnets.NORM,
        "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
        "stride_in_1x1": resnets.STRIDE_IN_1X1,
        "policy_size": blockdrop.POLICY_SIZE or None,
        "policy_training": blockdrop.POLICY_TRAINING,
        "execution": blockdrop.EXECUTION,
        "selection": selection,
    }


def build_blockdrop_resnet(cfg: CfgNode, in_channels: int = 3) -> BlockDropResNet:
    """Builds the BlockDrop-ResNet that a config describes.

    Args:
        cfg: a config with the options of `add_dynbackbones_config`.
        in_channels: channels of the images.

    Raises:
        UserError: see `blockdrop_options`; or an option has a value that the network does not take.
    """
    options = blockdrop_options(cfg)
    return _built(
        "MODEL.BLOCKDROP and MODEL.RESNETS",
        lambda: BlockDropResNet(in_channels=in_channels, **options),
    )


def lr_factors(cfg: CfgNode) -> dict[str, float]:
    """Factors of the learning rate by the names of `DynamicBackbone.own_parameters`."""
    return {
        "selector": cfg.MODEL.SAR.SELECTOR_LR_FACTOR,
        "policy": cfg.MODEL.BLOCKDROP.POLICY_LR_FACTOR,
    }


def learns_policy(cfg: CfgNode) -> bool:
    """Whether a config asks for a BlockDrop detector whose policy is trained."""
    return (
        "blockdrop" in cfg.MODEL.BACKBONE.NAME
        and cfg.MODEL.BLOCKDROP.POLICY_TRAINING == "reinforce"
    )


def reward_options(cfg: CfgNode) -> RewardOptions:
    """What ``MODEL.BLOCKDROP`` says of a policy's training.

    Raises:
        UserError: a value is out of range.
    """
    blockdrop = cfg.MODEL.BLOCKDROP
    return _built(
        "MODEL.BLOCKDROP",
        lambda: RewardOptions(
            gamma=blockdrop.GAMMA,
            tolerance=blockdrop.LOSS_TOLERANCE,
            alpha=blockdrop.ALPHA,
            entropy_weight=blockdrop.ENTROPY_WEIGHT,
            loss_weight=blockdrop.LOSS_WEIGHT,
            curriculum=blockdrop.CURRICULUM,
        ),
    )


def check_policy_training(cfg: CfgNode, processes: int) -> None:
    """Refuses to train a policy where there is no loss for each image.

    Args:
        cfg: a config with the options of `add_dynbackbones_config`.
        processes: that train together.

    Raises:
        UserError: the detector is not a RetinaNet, a process gets several images, or an option of
            the reward is out of range.
    """
    if not learns_policy(cfg):
        return
    reason = "MODEL.BLOCKDROP.POLICY_TRAINING reinforce compares losses of single images"
    if cfg.MODEL.META_ARCHITECTURE != "RetinaNet":
        raise UserError(
            f"{reason}, which {cfg.MODEL.META_ARCHITECTURE} does not have, since it samples its "
            f"proposals; train the policy in a RetinaNet, or set it to frozen"
        )
    if processes != cfg.SOLVER.IMS_PER_BATCH:
        raise UserError(
            f"{reason}, but SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH} for {processes} "
            f"process{'es' if processes > 1 else ''}; set it to {processes}"
        )
    reward_options(cfg)


def _check_plain_resnet(cfg: CfgNode) -> None:
    """Refuses the ResNets that `BlockDropResNet` cannot be."""
    resnets = cfg.MODEL.RESNETS
    expansion = LAYOUTS[resnets.DEPTH][0].expansion if resnets.DEPTH in LAYOUTS else 4
    channels = IMAGENET_STEM_CHANNELS
    fixed = {
        "NUM_GROUPS": (1,),
        "WIDTH_PER_GROUP": (channels,),
        "STEM_OUT_CHANNELS": (channels,),
        "RES2_OUT_CHANNELS": (channels * expansion,),
        # Blocks without bottleneck are dilated by no detector.
        "RES5_DILATION": (1, 2) if expansion > 1 else (1,),
    }
    for key, allowed in fixed.items():
        if resnets[key] not in allowed:
            raise UserError(
                f"MODEL.RESNETS.{key} is {resnets[key]}, but a BlockDrop-ResNet of depth "
                f"{resnets.DEPTH} needs {' or '.join(map(str, allowed))}; set it, or use another "
                f"backbone"
            )
    if any(get_key(cfg, "MODEL.RESNETS.DEFORM_ON_PER_STAGE", ())):
        raise UserError(
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE asks for deformable convolutions, which a "
            "BlockDrop-ResNet does not have; use another backbone"
        )


def _built(key: str, build: Callable[[], _Thing]) -> _Thing:
    """What ``build`` returns; its complaints about values become the user's, about ``key``."""
    try:
        return build()
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error


def check_frozen(cfg: CfgNode, norm_key: str) -> None:
    """Refuses to freeze a randomly initialised network.

    detectron2 freezes the stem and res2 by default (``FREEZE_AT`` 2), which makes sense for
    pretrained weights only.

    Args:
        cfg: a config.
        norm_key: the key of the backbone's norm, such as ``"MODEL.SAR.NORM"``.

    Raises:
        UserError: ``MODEL.WEIGHTS`` is empty, but ``FREEZE_AT`` is positive or the norm frozen.
    """
    if cfg.MODEL.WEIGHTS:
        return
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    if freeze_at > 0:
        raise UserError(
            f"MODEL.BACKBONE.FREEZE_AT is {freeze_at} but MODEL.WEIGHTS is empty, so random layers "
            f"would be frozen; set MODEL.BACKBONE.FREEZE_AT 0 or give weights"
        )
    if get_key(cfg, norm_key) == "FrozenBN":
        raise UserError(
            f"{norm_key} is FrozenBN but MODEL.WEIGHTS is empty: frozen norm layers need trained "
            f"statistics; set {norm_key} BN or give weights"
        )


def merge_config(cfg: CfgNode, config_file: str, opts: Sequence[str] = ()) -> None:
    """Merges a YAML file (with its ``_BASE_`` files) and then ``KEY VALUE`` pairs into a config.

    YAML is read with the safe loader only: tags that run code are refused.

    Args:
        cfg: changed in place.
        config_file: path of a YAML file; empty for none.
        opts: keys and values in turn, as they come from a command line.

    Raises:
        UserError: the file is missing or is not plain YAML, a key is unknown (names the nearest
            one), or a value has another type than the default.
    """
    if config_file:
        loaded = _load_yaml(type(cfg), config_file)
        try:
            cfg.merge_from_file(config_file, allow_unsafe=False)
        except KeyError as error:
            key = _first_unknown_key(loaded, cfg)
            reason = _unknown(key, cfg) if key else str(error.args[0])
            raise UserError(f"{config_file}: {reason}") from error
        except (ValueError, AssertionError) as error:
            raise UserError(f"{config_file}: {_one_line(error)}; {_TYPE_REMEDY}") from error
    misplaced = [option for option in opts if option.startswith("--")]
    if misplaced:
        raise UserError(
            f"{misplaced[0]} stands behind config overrides; options go before the first KEY VALUE"
        )
    if len(opts) % 2:
        raise UserError(f"config overrides must be pairs of KEY VALUE, got {' '.join(opts)!r}")
    for key, value in zip(opts[0::2], opts[1::2], strict=True):
        if get_key(cfg, key, _MISSING) is _MISSING:
            raise UserError(_unknown(key, cfg))
        try:
            cfg.merge_from_list([key, value])
        except (ValueError, AssertionError) as error:
            raise UserError(f"{key} {value}: {_one_line(error)}; {_TYPE_REMEDY}") from error


def get_key(cfg: CfgNode, key: str, default: Any = None) -> Any:
    """The value at a dotted key such as ``"MODEL.SAR.DEPTH"``; ``default`` where there is none."""
    for part in key.split("."):
        if not isinstance(cfg, CfgNode) or part not in cfg:
            return default
        cfg = cfg[part]
    return cfg


def num_classes_key(cfg: CfgNode) -> str:
    """The key of the number of classes that a config's meta-architecture reads."""
    node = "RETINANET" if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else "ROI_HEADS"
    return f"MODEL.{node}.NUM_CLASSES"


def num_classes(cfg: CfgNode) -> int:
    """The number of classes that a config's detector tells apart, background not counted."""
    return get_key(cfg, num_classes_key(cfg))


def _load_yaml(node: type[CfgNode], config_file: str) -> dict[str, Any]:
    """The content of a config file and its bases, as plain dicts."""
    if str(config_file).endswith(".py"):
        raise UserError(
            f"config file {config_file} is Python, and a YAML file is wanted here: mmengine's "
            "configs go with tools/train.py and tools/test.py, detectron2's lazy ones with "
            "detectron2's tools/lazyconfig_train_net.py"
        )
    if not os.path.isfile(config_file):
        raise UserError(f"config file {config_file} does not exist; check --config-file")
    try:
        loaded = node.load_yaml_with_base(config_file, allow_unsafe=False)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise UserError(
            f"{config_file}{place}: not a plain YAML config ({problem}); "
            f"tags that run Python are not allowed"
        ) from error
    except FileNotFoundError as error:
        raise UserError(f"{config_file}: its _BASE_ {error.filename} does not exist") from error
    except (TypeError, AttributeError):  # fvcore expects a mapping in every file
        loaded = None
    if not isinstance(loaded, Mapping):
        raise UserError(f"{config_file}: not a mapping of config keys")
    return loaded


def _flat_keys(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from _flat_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _first_unknown_key(loaded: Mapping[str, Any], cfg: CfgNode, prefix: str = "") -> str | None:
    """The first key of a loaded file that the config does not have and does not let in."""
    for key, value in loaded.items():
        if key not in cfg:
            if cfg.is_new_allowed():
                continue
            return prefix + str(key)
        if isinstance(value, Mapping) and isinstance(cfg[key], CfgNode):
            unknown = _first_unknown_key(value, cfg[key], f"{prefix}{key}.")
            if unknown:
                return unknown
    return None


def _one_line(error: Exception) -> str:
    """The message of an error that may quote a whole config node."""
    return " ".join(str(error).split())


def _unknown(key: str, cfg: CfgNode) -> str:
    """What to tell about an unknown key: the known one that looks most like it."""
    keys = list(_flat_keys(cfg))
    nearest = difflib.get_close_matches(key, keys, n=1, cutoff=0.0)
    return f"unknown config key {key}; did you mean {nearest[0]}?"
