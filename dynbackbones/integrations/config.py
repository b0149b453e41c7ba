"""The config options of this package, in detectron2's schema, and what they mean for a network.

Both engines use this file, so it knows config nodes and nothing of detectron2. fvcore's ``CfgNode``
and detectron2's, which derives from it, are both accepted everywhere.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from fvcore.common.config import CfgNode

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.factory import RegisteredBackbone, registered_backbones
from dynbackbones.backbones.resnet import LAYOUTS, WIDTH_PER_GROUP
from dynbackbones.errors import UserError
from dynbackbones.integrations import options
from dynbackbones.integrations.yaml_files import get_key
from dynbackbones.integrations.zoom import zoom_defaults
from dynbackbones.layers.stem import IMAGENET_STEM_CHANNELS

_logger = logging.getLogger(__name__)
_Thing = TypeVar("_Thing")

_BUILDERS = {
    "": "build_{}_backbone",
    "maxpool": "build_{}_fpn_backbone",
    "p6p7": "build_retinanet_{}_fpn_backbone",
}
# Of detectors that read pyramids: the levels that they read, and what their pyramids end in.
_PYRAMIDS = {
    "RetinaNet": ("MODEL.RETINANET.IN_FEATURES", "p6p7"),
    **dict.fromkeys(
        ("GeneralizedRCNN", "ProposalNetwork", "PanopticFPN"),
        ("MODEL.RPN.IN_FEATURES", "maxpool"),
    ),
}


def add_dynbackbones_config(cfg: CfgNode) -> None:
    """Adds the options of this package, with their defaults, to a detectron2-style config.

    Every backbone that is registered by then has its options under a node of its own, see
    `dynbackbones.integrations.options`; what they mean is said where its constructor is.

    Args:
        cfg: a config with the nodes ``MODEL`` and ``DATASETS``, changed in place.
    """
    node = type(cfg)
    for entry in registered_backbones().values():
        if entry.node is not None:
            cfg.MODEL[entry.node] = node(options.yaml_defaults(entry))
    cfg.MODEL.ZOOM = node(zoom_defaults())
    # Data sets of your own: name -> [annotation file, image folder], both relative to the folder in
    # the environment variable DETECTRON2_DATASETS ("datasets" if not set).
    cfg.DATASETS.COCO_FORMAT = node(new_allowed=True)
    # Whether annotation files may name images outside of their image folder.
    cfg.DATASETS.IMAGES_ANYWHERE = False


def builder_names(entry: RegisteredBackbone) -> dict[str, str]:
    """What ``MODEL.BACKBONE.NAME`` calls a backbone, by the end of the pyramid on it.

    Returns:
        The names for ``"maxpool"`` (p6, as in Faster R-CNN), ``"p6p7"`` (from res5, as in
        RetinaNet) and ``""`` (no pyramid).
    """
    return {top: name.format(entry.name) for top, name in _BUILDERS.items()}


def chosen_backbone(cfg: CfgNode) -> RegisteredBackbone | None:
    """The registered backbone that ``MODEL.BACKBONE.NAME`` names, alone or under a pyramid."""
    name = cfg.MODEL.BACKBONE.NAME
    entries = registered_backbones().values()
    return next((entry for entry in entries if name in builder_names(entry).values()), None)


def check_builder(cfg: CfgNode) -> None:
    """Refuses a pyramid without the level p7 that a detector reads, or with one that it does not.

    Raises:
        UserError: so it is; names the right builder.
    """
    name, kind = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.META_ARCHITECTURE
    entry = chosen_backbone(cfg)
    if entry is None or kind not in _PYRAMIDS:
        return
    names, (key, top) = builder_names(entry), _PYRAMIDS[kind]
    levels = [level for level in get_key(cfg, key, ()) if level.startswith("p")]
    usual = levels and ("p7" in levels) == (top == "p6p7")
    if usual and name not in (names[""], names[top]):
        raise UserError(
            f"MODEL.BACKBONE.NAME {name} does not suit MODEL.META_ARCHITECTURE {kind}, which "
            f"reads {', '.join(levels)}; use {names[top]}"
        )


def build_backbone(cfg: CfgNode, entry: RegisteredBackbone, in_channels: int = 3) -> Backbone:
    """Builds a registered backbone as a config describes it.

    Args:
        cfg: a config with the options of `add_dynbackbones_config`.
        entry: the backbone, such as `chosen_backbone` returns it.
        in_channels: channels of the images.

    Raises:
        UserError: an option has a value that the network does not take, or something is frozen
            although there are no weights.
    """
    resnet = options.network_of(entry).holds_resnet
    nodes = [f"MODEL.{entry.node}"] if entry.node else []
    nodes += ["MODEL.RESNETS"] if resnet else []
    check_frozen(cfg, norm_key=f"{nodes[-1]}.NORM")
    if entry.depths:
        check = _check_plain_resnet if resnet else _warn_of_resnets
        check(cfg, entry)
    arguments = options.constructor_arguments(entry, cfg.MODEL, in_channels)
    net = _built(" and ".join(nodes), lambda: entry.constructor(**arguments))
    _built("MODEL.BACKBONE.FREEZE_AT", lambda: net.freeze(cfg.MODEL.BACKBONE.FREEZE_AT))
    key = f"MODEL.{entry.node}.SELECTION"
    kind, rate = get_key(cfg, key), get_key(cfg, f"{key}_RATE")
    if kind:
        net.selection = _built(key, lambda: net.make_selection(kind, rate, seed=0))
    return net


def lr_factors(cfg: CfgNode) -> dict[str, float]:
    """Factors of the learning rate by the names of `DynamicBackbone.own_parameters`.

    Of all backbones, since a project can have builders of its own; between equal names the chosen
    one's counts.
    """
    chosen, factors = chosen_backbone(cfg), {}
    for entry in (*registered_backbones().values(), *([chosen] if chosen else [])):
        if entry.node is not None and entry.node in cfg.MODEL:
            factors.update(options.lr_factors_of(entry, cfg.MODEL[entry.node]))
    return factors


def learns_policy(cfg: CfgNode) -> bool:
    """Whether a config asks for a backbone whose policy is trained by rewards."""
    entry = chosen_backbone(cfg)
    return entry is not None and get_key(cfg, _policy_key(entry)) == "reinforce"


def _policy_key(entry: RegisteredBackbone) -> str:
    return f"MODEL.{entry.node}.POLICY_TRAINING"


def reward_options(cfg: CfgNode) -> Any:
    """What a config says of the training of the chosen backbone's policy.

    Returns:
        The network's `DynamicBackbone.training_options`; None where it has none.

    Raises:
        UserError: a value is out of range.
    """
    entry = chosen_backbone(cfg)
    make = options.network_of(entry).training_options
    if make is None:
        return None
    fields = options.training_arguments(entry, cfg.MODEL[entry.node])
    return _built(f"MODEL.{entry.node}", lambda: make(**fields))


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
    key = _policy_key(chosen_backbone(cfg))
    reason = f"{key} reinforce compares losses of single images"
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


def _warn_of_resnets(cfg: CfgNode, entry: RegisteredBackbone) -> None:
    """Says that a network with a node of its own does not read the plain one's."""
    # Where the node has an option, where the plain network, and what that is if nobody set it.
    for own, other, unset in (
        ("DEPTH", "DEPTH", 50),
        ("CARDINALITY", "NUM_GROUPS", 1),
        ("WIDTH_PER_GROUP", "WIDTH_PER_GROUP", WIDTH_PER_GROUP),
    ):
        value = get_key(cfg, f"MODEL.{entry.node}.{own}")
        ignored = get_key(cfg, f"MODEL.RESNETS.{other}", unset)
        if ignored not in (unset, value):
            _logger.warning(
                "building %s%d, as MODEL.%s.%s says; MODEL.RESNETS.%s %s is for other backbones",
                entry.name,
                cfg.MODEL[entry.node].DEPTH,
                entry.node,
                own,
                other,
                ignored,
            )


def _check_plain_resnet(cfg: CfgNode, entry: RegisteredBackbone) -> None:
    """Refuses the ResNets that none of this package's can be."""
    resnets = cfg.MODEL.RESNETS
    expansion = LAYOUTS[resnets.DEPTH][0].expansion if resnets.DEPTH in LAYOUTS else 4
    channels = IMAGENET_STEM_CHANNELS
    fixed = {
        "STEM_OUT_CHANNELS": (channels,),
        "RES2_OUT_CHANNELS": (channels * expansion,),
        # Blocks without bottleneck are dilated by no detector.
        "RES5_DILATION": (1, 2) if expansion > 1 and options.dilates(entry) else (1,),
    }
    if "cardinality" not in options.parameters_of(entry.constructor):
        fixed |= {"NUM_GROUPS": (1,), "WIDTH_PER_GROUP": (WIDTH_PER_GROUP,)}
    for key, allowed in fixed.items():
        if resnets[key] not in allowed:
            raise UserError(
                f"MODEL.RESNETS.{key} is {resnets[key]}, but {entry.name} of depth "
                f"{resnets.DEPTH} needs {' or '.join(map(str, allowed))}; set it, or use another "
                f"backbone"
            )
    if any(get_key(cfg, "MODEL.RESNETS.DEFORM_ON_PER_STAGE", ())):
        raise UserError(
            f"MODEL.RESNETS.DEFORM_ON_PER_STAGE asks for deformable convolutions, which "
            f"{entry.name} does not have; use another backbone"
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


def num_classes_key(cfg: CfgNode) -> str:
    """The key of the number of classes that a config's meta-architecture reads."""
    node = "RETINANET" if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else "ROI_HEADS"
    return f"MODEL.{node}.NUM_CLASSES"


def num_classes(cfg: CfgNode) -> int:
    """The number of classes that a config's detector tells apart, background not counted."""
    return get_key(cfg, num_classes_key(cfg))
