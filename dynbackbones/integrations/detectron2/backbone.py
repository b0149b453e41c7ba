"""Backbones of this package as detectron2 backbones, and their entries in its registry."""

from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling import Backbone as Detectron2Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from torch import Tensor

from dynbackbones import checkpoints
from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.factory import RegisteredBackbone, on_registration
from dynbackbones.checkpoints import names as key_maps
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import build_backbone as build_network
from dynbackbones.integrations.config import builder_names, check_builder

TOP_BLOCKS = ("maxpool", "p6p7")


class BackboneAdapter(Detectron2Backbone):
    """A backbone of this package behind detectron2's interface.

    All stages run, whichever features are returned. A network that holds a ResNet takes the
    weights of detectron2's own, whatever loads them.

    Args:
        net: the network, which stays reachable as ``net`` (decisions, execution, schedules).
        out_features: names of the features to return, such as ``["res3", "res4", "res5"]``.

    Raises:
        ValueError: the network has no feature of a name in ``out_features``.
    """

    def __init__(self, net: Backbone, out_features: Sequence[str]) -> None:
        super().__init__()
        unknown = [name for name in out_features if name not in net.feature_info]
        if unknown or not out_features:
            raise ValueError(
                f"out_features must name some of {', '.join(net.feature_info)}, "
                f"got {list(out_features)}"
            )
        self.net = net
        self.out_features = list(out_features)
        if net.holds_resnet:
            self.register_load_state_dict_pre_hook(_take_detectron2_names)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps (N, C, H, W) images to the named features."""
        features = self.net(images)
        return {name: features[name] for name in self.out_features}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each returned feature."""
        info = self.net.feature_info
        return {
            name: ShapeSpec(channels=info[name].channels, stride=info[name].stride)
            for name in self.out_features
        }


def _take_detectron2_names(
    adapter: BackboneAdapter, state_dict: dict[str, Tensor], prefix: str, *_args: Any
) -> None:
    """Load-state-dict pre-hook: renames in place what a detectron2 ResNet is called.

    A hook, because detectron2's checkpointer gives a file's names to the model as they are.

    Raises:
        UserError: the ResNet is another one.
    """
    inside, net = f"{prefix}net.", adapter.net
    renamed = key_maps.rename_detectron2(state_dict, prefix, inside)
    if renamed.keys() == state_dict.keys():
        return
    own = {k.removeprefix(inside): v for k, v in renamed.items() if k.startswith(inside)}
    checkpoints.check_architecture(
        net.state_dict(), own, "of a detectron2 ResNet", optional=net.decision_keys()
    )
    state_dict.clear()
    state_dict.update(renamed)


def build_fpn(
    bottom_up: Detectron2Backbone,
    in_features: Sequence[str],
    out_channels: int = 256,
    norm: str = "",
    fuse_type: str = "sum",
    top_block: str = "maxpool",
) -> FPN:
    """Puts detectron2's FPN on a backbone.

    Args:
        bottom_up: the backbone.
        in_features: names of the features to build on, from high to low resolution.
        out_channels: of every level.
        norm: norm of the FPN's convolutions, in detectron2's names.
        fuse_type: ``"sum"`` or ``"avg"``.
        top_block: ``"maxpool"`` adds p6 (Faster R-CNN); ``"p6p7"`` adds p6 and p7 from res5
            (RetinaNet).

    Raises:
        ValueError: the backbone does not return the features, their strides do not double from
            one to the next, or ``top_block`` is unknown.
    """
    shapes = bottom_up.output_shape()
    needed = [*in_features, *(["res5"] if top_block == "p6p7" else [])]
    missing = [name for name in needed if name not in shapes]
    if missing:
        raise ValueError(
            f"the FPN needs {', '.join(missing)}, but the backbone returns {', '.join(shapes)}"
        )
    strides = [shapes[name].stride for name in in_features]
    if any(low != 2 * high for high, low in zip(strides, strides[1:], strict=False)):
        raise ValueError(f"strides under an FPN must double at every level, got {strides}")
    if top_block not in TOP_BLOCKS:
        raise ValueError(f"top_block must be one of {', '.join(TOP_BLOCKS)}, got {top_block!r}")
    if top_block == "p6p7":
        top = LastLevelP6P7(shapes["res5"].channels, out_channels)
    else:
        top = LastLevelMaxPool()
    return FPN(bottom_up, list(in_features), out_channels, norm, top, fuse_type)


Builder = Callable[[CfgNode, ShapeSpec], Detectron2Backbone]

BUILDERS: dict[str, Builder] = {}
"""The builders in detectron2's registry, by name: three for each backbone with a node in YAML."""


def _register(entry: RegisteredBackbone) -> None:
    """Registers a backbone's builders.

    Raises:
        ValueError: detectron2 knows another builder by one of the names.
    """
    if entry.node is None:
        return
    names = builder_names(entry)
    for name in names.values():
        if name in BACKBONE_REGISTRY:
            raise ValueError(
                f"detectron2 has a builder called {name} already; call the backbone something "
                f"other than {entry.name!r}"
            )
    for top_block, name in names.items():
        BUILDERS[name] = _named_builder(entry, name, top_block)
        BACKBONE_REGISTRY.register(BUILDERS[name])


def _named_builder(entry: RegisteredBackbone, name: str, top_block: str) -> Builder:
    def build(cfg: CfgNode, input_shape: ShapeSpec) -> Detectron2Backbone:
        check_builder(cfg)
        adapter = _adapted(cfg, build_network(cfg, entry, in_channels=input_shape.channels))
        return _fpn_from_config(cfg, adapter, top_block) if top_block else adapter

    pyramid = f"with an FPN from ``MODEL.FPN`` that ends in {top_block}" if top_block else "alone"
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""``{entry.name}`` {pyramid}.

    Raises:
        UserError: an option has a value that the network does not take, or the detector wants
            another pyramid.
    """
    return build


def _adapted(cfg: CfgNode, net: Backbone) -> BackboneAdapter:
    try:
        return BackboneAdapter(net, cfg.MODEL.RESNETS.OUT_FEATURES)
    except ValueError as error:
        raise UserError(f"MODEL.RESNETS.OUT_FEATURES: {error}") from error


def _fpn_from_config(cfg: CfgNode, bottom_up: Detectron2Backbone, top_block: str) -> FPN:
    fpn = cfg.MODEL.FPN
    try:
        return build_fpn(
            bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, fpn.NORM, fpn.FUSE_TYPE, top_block
        )
    except ValueError as error:
        raise UserError(f"MODEL.FPN: {error}") from error


on_registration(_register)
