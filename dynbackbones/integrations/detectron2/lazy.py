"""Lazy configs: nodes that describe a backbone; detectron2's ``instantiate`` builds it."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import LazyCall
from omegaconf import DictConfig

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.blockdrop.resnet import BlockDropResNet
from dynbackbones.backbones.sar.resnet import SARResNet
from dynbackbones.integrations.detectron2.backbone import BackboneAdapter, build_fpn


def sar_resnet_fpn(
    depth: int = 50,
    *,
    in_features: Sequence[str] = ("res3", "res4", "res5"),
    out_channels: int = 256,
    fpn_norm: str = "",
    fuse_type: str = "sum",
    top_block: str = "p6p7",
    **sar_options: Any,
) -> DictConfig:
    """Describes a SAR-ResNet with FPN, the same network as the registry's builders make.

    ``model.backbone = sar_resnet_fpn(50, groups=2)`` in a lazy config; every value can then be
    overridden, for example ``model.backbone.bottom_up.net.target_rate=0.3`` on a command line.

    Args:
        depth: 18, 34, 50 or 101.
        in_features: features that the FPN builds on, from high to low resolution.
        out_channels: of every FPN level.
        fpn_norm: norm of the FPN's convolutions, in detectron2's names.
        fuse_type: of the FPN, ``"sum"`` or ``"avg"``.
        top_block: ``"p6p7"`` for RetinaNet, ``"maxpool"`` for Faster R-CNN.
        sar_options: other arguments of `SARResNet`.

    Returns:
        A lazy node with the nodes ``bottom_up`` (the adapter) and ``bottom_up.net`` inside.

    Raises:
        ValueError: `SARResNet` has no argument of a name in ``sar_options``.
    """
    net = _described(SARResNet, depth, sar_options)
    return _fpn(net, in_features, out_channels, fpn_norm, fuse_type, top_block)


def blockdrop_resnet_fpn(
    depth: int = 50,
    *,
    in_features: Sequence[str] = ("res3", "res4", "res5"),
    out_channels: int = 256,
    fpn_norm: str = "",
    fuse_type: str = "sum",
    top_block: str = "p6p7",
    **blockdrop_options: Any,
) -> DictConfig:
    """Describes a BlockDrop-ResNet with FPN, the same network as the registry's builders make.

    Args:
        depth: 18, 34, 50 or 101.
        in_features, out_channels, fpn_norm, fuse_type, top_block: see `sar_resnet_fpn`.
        blockdrop_options: other arguments of `BlockDropResNet`. detectron2's model zoo has
            ``stride_in_1x1=True, norm="FrozenBN", freeze_at=2``.

    Returns:
        A lazy node with the nodes ``bottom_up`` (the adapter) and ``bottom_up.net`` inside.

    Raises:
        ValueError: `BlockDropResNet` has no argument of a name in ``blockdrop_options``.
    """
    net = _described(BlockDropResNet, depth, blockdrop_options)
    return _fpn(net, in_features, out_channels, fpn_norm, fuse_type, top_block)


def _described(network: type[Backbone], depth: int, options: Mapping[str, Any]) -> DictConfig:
    known = inspect.signature(network).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(
            f"unknown option {', '.join(unknown)} of {network.__name__}, which has "
            f"{', '.join(known)}"
        )
    return LazyCall(network)(depth=depth, **options)


def _fpn(
    net: DictConfig,
    in_features: Sequence[str],
    out_channels: int,
    norm: str,
    fuse_type: str,
    top_block: str,
) -> DictConfig:
    return LazyCall(build_fpn)(
        bottom_up=LazyCall(BackboneAdapter)(net=net, out_features=list(in_features)),
        in_features=list(in_features),
        out_channels=out_channels,
        norm=norm,
        fuse_type=fuse_type,
        top_block=top_block,
    )
