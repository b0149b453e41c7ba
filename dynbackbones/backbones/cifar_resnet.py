"""The ResNets for CIFAR: three stages of `CifarBlock`, or of a wide ResNet's or a ResNeXt's."""

from typing import NamedTuple

from torch import nn

from dynbackbones.backbones.base import FeatureInfo
from dynbackbones.backbones.resnet import (
    WIDTH_PER_GROUP,
    StaticResNet,
    block_maker,
    check_choice,
    init_weights,
    kind_title,
)
from dynbackbones.layers.cifar import CifarBlock
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import (
    BasicBlock,
    Bottleneck,
    ResidualBlock,
    set_activation_checkpointing,
)
from dynbackbones.layers.stem import CIFAR_STEM_CHANNELS, add_cifar_stem

PAPER_DEPTHS = (20, 32, 56, 110)
"""Of He et al.; dynamic networks come in these, since smaller ones have little to leave out."""
DEPTHS = (8, 14, *PAPER_DEPTHS)
WIDE_DEPTHS, BOTTLENECKS = (16, 22, 28, 40), 29
"""Depths of other blocks, as their authors count: of wide ResNets, and of ResNeXts."""
WIDE_RESNET28_10 = {"depth": 28, "width": 10}
RESNEXT29_8X32 = {"depth": BOTTLENECKS, "width": 1, "cardinality": 8, "width_per_group": 32}


class CifarLayout(NamedTuple):
    """What networks of a depth are made of.

    Attributes:
        kind: of block.
        count: of blocks in each stage.
        stem_channels: of the stem; the first stage has as many times the kind's expansion.
    """

    kind: type[ResidualBlock]
    count: int
    stem_channels: int

    def channels(self, width: float) -> list[int]:
        """Of each stage.

        Args:
            width: a factor.

        Raises:
            ValueError: it is not positive.
        """
        if not width > 0:
            raise ValueError(f"width must be positive, got {width!r}")
        first = self.stem_channels * self.kind.expansion
        return [int(first * 2**index * width) for index in range(3)]


def cifar_layout(depth: int) -> CifarLayout:
    """What networks of a depth are made of; their number of blocks is not checked."""
    if depth == BOTTLENECKS:
        return CifarLayout(Bottleneck, (depth - 2) // 9, 64)
    if depth in WIDE_DEPTHS:
        return CifarLayout(BasicBlock, (depth - 4) // 6, CIFAR_STEM_CHANNELS)
    return CifarLayout(CifarBlock, (depth - 2) // 6, CIFAR_STEM_CHANNELS)


def cifar_title(depth: int, width: float, cardinality: int, width_per_group: int) -> str:
    """What a network with these options is called, such as ``"CIFAR-ResNet-20"``."""
    if depth in WIDE_DEPTHS:
        return f"CIFAR-WRN-{depth}-{width:g}"
    return f"CIFAR-{kind_title(depth, cardinality, width_per_group)}"


def add_cifar_stages(
    net: nn.Module,
    depth: int,
    norm: NormLayer,
    stage: type[nn.Sequential] = nn.Sequential,
    width: float = 1,
    cardinality: int = 1,
    width_per_group: int = WIDTH_PER_GROUP,
) -> dict[str, FeatureInfo]:
    """Adds ``layer1`` to ``layer3`` of a ResNet for CIFAR to a module.

    Args:
        net: the module.
        depth: 6 n + 2 for n blocks in each stage, or one of another layout; see `cifar_layout`.
        norm: constructor of the norm layers.
        stage: class of the stages.
        width: factor of all channels but the stem's.
        cardinality, width_per_group: of bottlenecks; see `ResNet`.

    Returns:
        What the features are.

    Raises:
        ValueError: an option has a value that the blocks cannot have.
    """
    layout = cifar_layout(depth)
    block = block_maker(layout.kind, cardinality, width_per_group)
    infos, before = {}, layout.stem_channels
    for index, channels in enumerate(layout.channels(width)):
        blocks = [
            block(
                before if number == 0 else channels,
                channels,
                stride=2 if number == 0 and index else 1,
                norm=norm,
            )
            for number in range(layout.count)
        ]
        net.add_module(f"layer{index + 1}", stage(*blocks))
        infos[f"res{index + 2}"] = FeatureInfo(channels, 2**index, f"layer{index + 1}")
        before = channels
    return infos


class CifarResNet(StaticResNet):
    """ResNet for CIFAR (He et al., 2016, section 4.2) without classifier.

    The shortcuts have no parameters; see `CifarBlock`. Features are ``res2``, ``res3`` and
    ``res4`` with 16, 32 and 64 channels, times ``width``, at strides 1, 2 and 4.

    Some depths have other blocks, whose shortcuts are 1x1 convolutions where channels change: 16,
    22, 28 and 40 are the wide ResNets' (Zagoruyko and Komodakis, 2016), WRN-28-10 with
    ``width=10``, but for norms and ReLUs behind the convolutions; 29 has bottlenecks with 256, 512
    and 1024 channels, which with ``cardinality=8, width_per_group=32`` are ResNeXt-29 (Xie et al.,
    2017).

    Args:
        depth: 8, 14, 20, 32, 56 or 110; 16, 22, 28 or 40; 29.
        in_channels: channels of the images.
        width: factor of all channels but the stem's; 2 is "ResNet32x2" of SAR's table III.
        cardinality, width_per_group: of depth 29; see `ResNet`.
        norm, freeze_at, activation_checkpointing: see `ResNet`.

    Raises:
        ValueError: an option has a value that is not known.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.CifarResNet(20)
        >>> tuple(net(torch.rand(2, 3, 32, 32))["res4"].shape)
        (2, 64, 8, 8)
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        width: float = 1,
        cardinality: int = 1,
        width_per_group: int = WIDTH_PER_GROUP,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels)
        check_choice("depth", depth, (*DEPTHS, *WIDE_DEPTHS, BOTTLENECKS))
        self.title = cifar_title(depth, width, cardinality, width_per_group)
        make_norm = norm_layer(norm)
        add_cifar_stem(self, in_channels, make_norm, cifar_layout(depth).stem_channels)
        self.feature_info = add_cifar_stages(
            self,
            depth,
            make_norm,
            width=width,
            cardinality=cardinality,
            width_per_group=width_per_group,
        )
        if activation_checkpointing:
            set_activation_checkpointing(self)
        init_weights(self)
        self.freeze(freeze_at)
