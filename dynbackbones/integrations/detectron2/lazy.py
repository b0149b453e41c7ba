"""Lazy configs: nodes that describe a backbone; detectron2's ``instantiate`` builds it."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import LazyCall
from omegaconf import DictConfig

from dynbackbones.backbones.blockdrop.resnet import BlockDropResNet
from dynbackbones.backbones.factory import Constructor, find_registered
from dynbackbones.backbones.sar.resnet import SARResNet
from dynbackbones.backbones.signature import unknown_option
from dynbackbones.integrations.detectron2.backbone import BackboneAdapter, build_fpn
from dynbackbones.integrations.options import signature_of


def backbone_fpn(
    backbone: str | Constructor,
    *,
    in_features: Sequence[str] = ("res3", "res4", "res5"),
    out_channels: int = 256,
    fpn_norm: str = "",
    fuse_type: str = "sum",
    top_block: str = "p6p7",
    **options: Any,
) -> DictConfig:
    """Describes a backbone with FPN, the same network as the registry's builders make.

    ``model.backbone = backbone_fpn("sar_resnet50", groups=2)`` in a lazy config; every value can
    then be overridden, for example ``model.backbone.bottom_up.net.target_rate=0.3`` on a command
    line.

    Args:
        backbone: a name of `dynbackbones.list_backbones`, or a class.
        in_features: features that the FPN builds on, from high to low resolution.
        out_channels: of every FPN level.
        fpn_norm: norm of the FPN's convolutions, in detectron2's names.
        fuse_type: of the FPN, ``"sum"`` or ``"avg"``.
        top_block: ``"p6p7"`` for RetinaNet, ``"maxpool"`` for Faster R-CNN.
        options: of the backbone's constructor.

    Returns:
        A lazy node with the nodes ``bottom_up`` (the adapter) and ``bottom_up.net`` inside.

    Raises:
        ValueError: there is no such backbone, or it has no such option.
    """
    constructor = backbone
    if isinstance(backbone, str):
        entry = find_registered(backbone)
        constructor = entry.constructor
        options = {**entry.names[backbone].named, **options}
    unknown = unknown_option(options, signature_of(constructor))
    if unknown is not None:
        raise ValueError(f"unknown option {unknown[0]} of {constructor.__name__}{unknown[1]}")
    return LazyCall(build_fpn)(
        bottom_up=LazyCall(BackboneAdapter)(
            net=LazyCall(constructor)(**options), out_features=list(in_features)
        ),
        in_features=list(in_features),
        out_channels=out_channels,
        norm=fpn_norm,
        fuse_type=fuse_type,
        top_block=top_block,
    )


def sar_resnet_fpn(depth: int = 50, **options: Any) -> DictConfig:
    """Describes a SAR-ResNet with FPN.

    Args:
        depth: 18, 34, 50 or 101.
        options: other arguments of `backbone_fpn` and of `dynbackbones.SARResNet`.

    Raises:
        ValueError: there is no such option.
    """
    return backbone_fpn(SARResNet, depth=depth, **options)


def blockdrop_resnet_fpn(depth: int = 50, **options: Any) -> DictConfig:
    """Describes a BlockDrop-ResNet with FPN.

    Args:
        depth: 18, 34, 50 or 101.
        options: other arguments of `backbone_fpn` and of `dynbackbones.BlockDropResNet`.
            detectron2's model zoo has ``stride_in_1x1=True, norm="FrozenBN", freeze_at=2``.

    Raises:
        ValueError: there is no such option.
    """
    return backbone_fpn(BlockDropResNet, depth=depth, **options)
