"""The backbones in OpenMMLab's idiom: its option names, a tuple of feature maps, `init_cfg`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS, WEIGHT_INITIALIZERS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dynbackbones.backbones import cifar_resnet, resnet
from dynbackbones.backbones.blockdrop import resnet as blockdrop_resnet
from dynbackbones.backbones.sar import cifar_resnet as sar_cifar_resnet
from dynbackbones.backbones.sar import resnet as sar_resnet
from dynbackbones.backbones.sar.selection import RegionSelection
from dynbackbones.integrations.openmmlab.weights import load_pretrained
from dynbackbones.layers.norm import NormLayer

STAGES = 4
CIFAR_STAGES = 3
# (strides, dilations) of the four stages in mmseg's configs -> output stride.
_LAYOUTS = {
    ((1, 2, 2, 2), (1, 1, 1, 1)): 32,
    ((1, 2, 2, 1), (1, 1, 1, 2)): 16,
    ((1, 2, 1, 1), (1, 1, 2, 4)): 8,
}


class OpenMMLabBackbone:
    """What OpenMMLab expects of a backbone, to be mixed into one of this package's.

    The class stands before the backbone and `BaseModule` after it, so that parameter names are the
    backbone's own.
    """

    norm_eval = False

    def _adapt(
        self,
        out_indices: Sequence[int],
        norm_eval: bool,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    ) -> None:
        names = list(self.feature_info)
        if not out_indices or not all(index in range(len(names)) for index in out_indices):
            raise ValueError(
                f"out_indices must name stages 0 to {len(names) - 1} ({', '.join(names)}), got "
                f"{tuple(out_indices)}"
            )
        self.out_indices = tuple(out_indices)
        self.out_names = tuple(names[index] for index in out_indices)
        self.norm_eval = norm_eval
        configs = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg or ())
        for cfg in configs:
            _check_init(cfg)
        self._pretrained = [dict(cfg) for cfg in configs if cfg["type"] == "Pretrained"]
        self.init_cfg = [dict(cfg) for cfg in configs if cfg["type"] != "Pretrained"]
        self.train(self.training)

    def forward(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None = None
    ) -> tuple[Tensor, ...]:
        features = super().forward(images, image_sizes)
        return tuple(features[name] for name in self.out_names)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Loads what `init_cfg` names; see `load_pretrained`."""
        super().init_weights()
        for cfg in self._pretrained:
            load_pretrained(self, cfg["checkpoint"], cfg.get("prefix"))


@MODELS.register_module()
class SARResNet(OpenMMLabBackbone, sar_resnet.SARResNet, BaseModule):
    """`dynbackbones.SARResNet` for OpenMMLab's libraries.

    Args:
        depth: 18, 34, 50 or 101.
        in_channels: channels of the images.
        out_indices: stages whose features come out: 0 is res2 (stride 4), 3 is res5.
        output_stride: 32, 16 or 8; or, as in mmseg's configs,
        strides, dilations: of the four stages, both or none.
        norm_cfg: of the norm layers, such as ``dict(type="SyncBN")``.
        norm_eval: keep the statistics of all norm layers as they are.
        frozen_stages: -1 freezes nothing, 0 the stem, 1 also stage 1, and so on.
        with_cp: activation checkpointing, memory for time.
        init_cfg: mmengine's; ``dict(type="Pretrained", checkpoint=..., prefix="backbone.")`` reads
            a file, a URL or ``torchvision://resnet50``, and refuses weights that do not fit.
        groups, base_scale, alpha, beta, cell_size, grid_size, target_rate, target_schedule,
            temperature, loss_weight, loss_reduction, selector_margin, execution: see
            `dynbackbones.SARResNet`.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        output_stride: int | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        groups: int = 2,
        base_scale: int = 2,
        alpha: int = 2,
        beta: float = 1,
        cell_size: Sequence[int] = (4, 4, 7),
        grid_size: int | None = None,
        target_rate: float = 0.5,
        target_schedule: str = "ramp",
        temperature: Sequence[float] = (1.0, 0.01),
        loss_weight: float = 1.0,
        loss_reduction: str = "batch",
        selector_margin: float = 9.0,
        execution: str = "auto",
    ) -> None:
        super().__init__(
            depth,
            in_channels=in_channels,
            output_stride=output_stride_of(output_stride, strides, dilations),
            norm=norm_of(norm_cfg),
            freeze_at=freeze_at_of(frozen_stages),
            activation_checkpointing=with_cp,
            groups=groups,
            base_scale=base_scale,
            alpha=alpha,
            beta=beta,
            cell_size=cell_size,
            grid_size=grid_size,
            target_rate=target_rate,
            target_schedule=target_schedule,
            temperature=tuple(temperature),
            loss_weight=loss_weight,
            loss_reduction=loss_reduction,
            selector_margin=selector_margin,
            execution=execution,
        )
        self._adapt(out_indices, norm_eval, init_cfg)


@MODELS.register_module()
class StaticResNet(OpenMMLabBackbone, resnet.ResNet, BaseModule):
    """`dynbackbones.ResNet`, the baseline that the dynamic backbones are compared with.

    Its name keeps it apart from the ResNets of mmseg, mmpretrain and mmdet, which report no MACs.

    Args:
        depth, in_channels, out_indices, output_stride, strides, dilations, norm_cfg, norm_eval,
            frozen_stages, with_cp, init_cfg: see `SARResNet`.
        stride_in_1x1: ``style="caffe"`` elsewhere: the strides are in the first 1x1 convolutions.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        output_stride: int | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__(
            depth,
            in_channels=in_channels,
            output_stride=output_stride_of(output_stride, strides, dilations),
            norm=norm_of(norm_cfg),
            freeze_at=freeze_at_of(frozen_stages),
            activation_checkpointing=with_cp,
            stride_in_1x1=stride_in_1x1,
        )
        self._adapt(out_indices, norm_eval, init_cfg)


@MODELS.register_module()
class BlockDropResNet(OpenMMLabBackbone, blockdrop_resnet.BlockDropResNet, BaseModule):
    """`dynbackbones.BlockDropResNet` for OpenMMLab's libraries.

    A plain ResNet's weights load through ``init_cfg``; the policy network then starts anew.

    Args:
        depth, in_channels, out_indices, output_stride, strides, dilations, norm_cfg, norm_eval,
            frozen_stages, with_cp, init_cfg: see `SARResNet`.
        stride_in_1x1: see `StaticResNet`.
        policy_size, policy_training, execution, selection: see `dynbackbones.BlockDropResNet`.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        output_stride: int | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        stride_in_1x1: bool = False,
        policy_size: int | None = 224,
        policy_training: str = "frozen",
        execution: str = "auto",
        selection: str | Sequence | None = None,
    ) -> None:
        super().__init__(
            depth,
            in_channels=in_channels,
            output_stride=output_stride_of(output_stride, strides, dilations),
            norm=norm_of(norm_cfg),
            freeze_at=freeze_at_of(frozen_stages),
            activation_checkpointing=with_cp,
            stride_in_1x1=stride_in_1x1,
            policy_size=policy_size,
            policy_training=policy_training,
            execution=execution,
            selection=selection,
        )
        self._adapt(out_indices, norm_eval, init_cfg)


@MODELS.register_module()
class CifarResNet(OpenMMLabBackbone, cifar_resnet.CifarResNet, BaseModule):
    """`dynbackbones.CifarResNet` for OpenMMLab's libraries, mmpretrain above all.

    Args:
        depth: 20, 32, 56 or 110.
        out_indices: stages whose features come out: 0 is res2 (stride 1), 2 is res4.
        in_channels, norm_cfg, norm_eval, frozen_stages, with_cp, init_cfg: see `SARResNet`.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] = (2,),
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(
            depth,
            in_channels=in_channels,
            norm=norm_of(norm_cfg),
            freeze_at=freeze_at_of(frozen_stages, CIFAR_STAGES),
            activation_checkpointing=with_cp,
        )
        self._adapt(out_indices, norm_eval, init_cfg)


@MODELS.register_module()
class SARCifarResNet(OpenMMLabBackbone, sar_cifar_resnet.SARCifarResNet, BaseModule):
    """`dynbackbones.SARCifarResNet` for OpenMMLab's libraries.

    Args:
        depth, in_channels, out_indices, norm_cfg, norm_eval, frozen_stages, with_cp, init_cfg: see
            `CifarResNet`.
        width, groups, base_scale, alpha, beta, branches, cell_size, grid_size, target_rate,
            target_schedule, temperature, loss_weight, loss_reduction, selector_margin, execution:
            see `dynbackbones.SARCifarResNet`.
        selection: regions to refine instead of the learned ones; a name that `RegionSelection`
            knows.
        selection_rate: share of the regions that it selects.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] = (2,),
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        width: float = 2,
        groups: int = 2,
        base_scale: int = 2,
        alpha: int = 2,
        beta: float = 1,
        branches: str = "both",
        cell_size: Sequence[int] = (8, 4, 4),
        grid_size: int | None = None,
        target_rate: float = 0.5,
        target_schedule: str = "ramp",
        temperature: Sequence[float] = (1.0, 0.01),
        loss_weight: float = 1.0,
        loss_reduction: str = "batch",
        selector_margin: float = 9.0,
        execution: str = "auto",
        selection: str | None = None,
        selection_rate: float = 0.5,
    ) -> None:
        super().__init__(
            depth,
            in_channels=in_channels,
            norm=norm_of(norm_cfg),
            freeze_at=freeze_at_of(frozen_stages, CIFAR_STAGES),
            activation_checkpointing=with_cp,
            width=width,
            groups=groups,
            base_scale=base_scale,
            alpha=alpha,
            beta=beta,
            branches=branches,
            cell_size=cell_size,
            grid_size=grid_size,
            target_rate=target_rate,
            target_schedule=target_schedule,
            temperature=tuple(temperature),
            loss_weight=loss_weight,
            loss_reduction=loss_reduction,
            selector_margin=selector_margin,
            execution=execution,
            selection=None if selection is None else RegionSelection(selection, selection_rate),
        )
        self._adapt(out_indices, norm_eval, init_cfg)


@MODELS.register_module()
class BlockDropCifarResNet(OpenMMLabBackbone, blockdrop_resnet.BlockDropCifarResNet, BaseModule):
    """`dynbackbones.BlockDropCifarResNet` for OpenMMLab's libraries.

    Args:
        depth, in_channels, out_indices, norm_cfg, norm_eval, frozen_stages, with_cp, init_cfg: see
            `CifarResNet`; a plain network's weights load as for `BlockDropResNet`.
        policy_training, execution, selection: see `dynbackbones.BlockDropCifarResNet`.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] = (2,),
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        policy_training: str = "frozen",
        execution: str = "auto",
        selection: str | Sequence | None = None,
    ) -> None:
        super().__init__(
            depth,
            in_channels=in_channels,
            norm=norm_of(norm_cfg),
            freeze_at=freeze_at_of(frozen_stages, CIFAR_STAGES),
            activation_checkpointing=with_cp,
            policy_training=policy_training,
            execution=execution,
            selection=selection,
        )
        self._adapt(out_indices, norm_eval, init_cfg)


def _check_init(cfg: Mapping[str, Any]) -> None:
    if cfg.get("type") not in WEIGHT_INITIALIZERS.module_dict:
        raise ValueError(
            f"init_cfg has the type {cfg.get('type')!r}; known: "
            f"{', '.join(sorted(WEIGHT_INITIALIZERS.module_dict))}"
        )
    options = cfg.keys() - {"type"}
    if cfg["type"] == "Pretrained" and not {"checkpoint"} <= options <= {"checkpoint", "prefix"}:
        raise ValueError(
            "init_cfg of type Pretrained takes checkpoint and prefix, got "
            f"{', '.join(sorted(options)) or 'nothing'}"
        )


def output_stride_of(
    output_stride: int | None, strides: Sequence[int] | None, dilations: Sequence[int] | None
) -> int:
    """The output stride that either way of writing it means.

    Raises:
        ValueError: both ways are used, or strides and dilations mean no known network.
    """
    if strides is None and dilations is None:
        return 32 if output_stride is None else output_stride
    if output_stride is not None:
        raise ValueError("give output_stride, or strides and dilations, not both")
    layout = tuple(strides or (1, 2, 2, 2)), tuple(dilations or (1,) * STAGES)
    if layout not in _LAYOUTS:
        known = "; ".join(f"{s}, {d} (output_stride {o})" for (s, d), o in _LAYOUTS.items())
        raise ValueError(
            f"strides {layout[0]} with dilations {layout[1]} is not a known network; known: {known}"
        )
    return _LAYOUTS[layout]


def freeze_at_of(frozen_stages: int, stages: int = STAGES) -> int:
    """`Backbone.freeze`'s count for OpenMMLab's.

    Raises:
        ValueError: there is no such stage.
    """
    if not -1 <= frozen_stages <= stages:
        raise ValueError(f"frozen_stages must lie in -1..{stages}, got {frozen_stages}")
    return frozen_stages + 1


def norm_of(norm_cfg: Mapping[str, Any] | None) -> str | NormLayer:
    """A constructor of norm layers from OpenMMLab's config of one.

    Raises:
        ValueError: mmcv knows no such layer.
    """
    if norm_cfg is None:
        return "BN"
    # Imported on use: mmengine alone is enough for everything else here.
    from mmcv.cnn import build_norm_layer

    try:
        build_norm_layer(dict(norm_cfg), 64)
    except KeyError as error:
        raise ValueError(
            f"norm_cfg has the type {norm_cfg.get('type')!r}; give one that mmcv knows, such as BN "
            "or SyncBN"
        ) from error
    return lambda channels: build_norm_layer(dict(norm_cfg), channels)[1]
