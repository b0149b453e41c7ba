"""The static ResNet: reference and baseline of the dynamic backbones."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from dynbackbones.backbones.base import FeatureInfo
from dynbackbones.backbones.static import StaticBackbone
from dynbackbones.layers.convolutions import conv_out_size
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import (
    BasicBlock,
    BlockMaker,
    Bottleneck,
    ResidualBlock,
    set_activation_checkpointing,
)
from dynbackbones.layers.stem import IMAGENET_STEM_CHANNELS, add_imagenet_stem

LAYOUTS: dict[int, tuple[type[ResidualBlock], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}
OUTPUT_STRIDES = (8, 16, 32)
WIDTH_PER_GROUP = 64
RESNEXT = {"cardinality": 32, "width_per_group": 4}
"""The options that make a ResNet-50 a ResNeXt-50 (32x4d)."""


def check_choice(name: str, value, choices: Sequence) -> None:
    """Raises a ValueError that names the option unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def block_maker(
    kind: type[ResidualBlock], cardinality: int, width_per_group: int
) -> BlockMaker:
    """The blocks of a ResNet, a ResNeXt or a wide ResNet.

    Args:
        kind: of block.
        cardinality, width_per_group: see `ResNet`.

    Raises:
        ValueError: they have values that the blocks cannot have.
    """
    options = {"cardinality": cardinality, "width_per_group": width_per_group}
    for name, value in options.items():
        if not (isinstance(value, int) and value >= 1):
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    inner = cardinality * width_per_group
    if inner == WIDTH_PER_GROUP and cardinality == 1:
        return kind
    if not issubclass(kind, Bottleneck):
        raise ValueError(
            f"cardinality={cardinality} and width_per_group={width_per_group} are options of "
            f"bottlenecks: choose depth 50 or 101 (29 for CIFAR), or 1 and {WIDTH_PER_GROUP}"
        )
    return partial(kind, cardinality=cardinality, expansion=kind.expansion * 64 / inner)


def kind_title(depth: int, cardinality: int, width_per_group: int) -> str:
    """What a ResNet with these options is called, such as ``"ResNeXt-50 (32x4d)"``."""
    if (cardinality, width_per_group) == (1, WIDTH_PER_GROUP):
        return f"ResNet-{depth}"
    if cardinality == 1:
        return f"wide ResNet-{depth} ({width_per_group / WIDTH_PER_GROUP:g} x)"
    return f"ResNeXt-{depth} ({cardinality}x{width_per_group}d)"


def init_weights(module: nn.Module) -> None:
    """He initialisation of the convolutions; norm layers keep their own (gamma 1, beta 0)."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")


def feature_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Size of a feature map of this stride for an input of ``size`` pixels."""
    return conv_out_size(size[0], stride), conv_out_size(size[1], stride)


def add_stages(
    net: nn.Module,
    depth: int,
    *,
    output_stride: int,
    norm: NormLayer,
    stride_in_1x1: bool,
    cardinality: int = 1,
    width_per_group: int = WIDTH_PER_GROUP,
    dilate_first: bool = False,
    stage: type[nn.Sequential] = nn.Sequential,
) -> dict[str, FeatureInfo]:
    """Adds ``layer1`` to ``layer4`` of a ResNet to a module.

    Args:
        net: the module.
        depth: of `LAYOUTS`.
        output_stride: 32, 16 or 8; the lower two trade the strides of the last stages for
            dilation, the first block of a stage keeping the dilation before it.
        norm: constructor of the norm layers.
        stride_in_1x1: see `ResidualBlock`.
        cardinality, width_per_group: see `ResNet`.
        dilate_first: dilate the first block of a stage like the others, as detectron2 does.
        stage: class of the stages.

    Returns:
        What the features are.
    """
    kind, counts = LAYOUTS[depth]
    block = block_maker(kind, cardinality, width_per_group)
    infos: dict[str, FeatureInfo] = {}
    channels, stride, dilation = IMAGENET_STEM_CHANNELS, 4, 1
    for index, count in enumerate(counts, start=1):
        out_channels = 64 * 2 ** (index - 1) * kind.expansion
        first_dilation, first_stride = dilation, 1 if index == 1 else 2
        if stride * first_stride > output_stride:
            first_stride, dilation = 1, dilation * 2
        if dilate_first:
            first_dilation = dilation
        stride *= first_stride
        blocks = [
            block(
                channels if number == 0 else out_channels,
                out_channels,
                stride=first_stride if number == 0 else 1,
                dilation=dilation,
                first_dilation=first_dilation if number == 0 else dilation,
                norm=norm,
                stride_in_1x1=stride_in_1x1,
            )
            for number in range(count)
        ]
        net.add_module(f"layer{index}", stage(*blocks))
        channels = out_channels
        infos[f"res{index + 1}"] = FeatureInfo(channels, stride, f"layer{index}")
    return infos


class StaticResNet(StaticBackbone):
    """What static ResNets share."""

    holds_resnet = True

    def stages(self) -> dict[str, list[nn.Module]]:
        return {name: [getattr(self, info.module)] for name, info in self.feature_info.items()}


class ResNet(StaticResNet):
    """ResNet (He et al., 2016) with torchvision's parameter names and no classifier.

    With ``cardinality=32, width_per_group=4`` it is a ResNeXt (Xie et al., 2017).

    Args:
        depth: 18, 34, 50 or 101.
        in_channels: channels of the images.
        output_stride: 32, 16 or 8; the lower two trade the strides of the last stages for
            dilation, the first block of a stage keeping the dilation before it.
        norm: ``"BN"``, ``"SyncBN"``, ``"FrozenBN"`` or a constructor; see `norm_layer`.
        freeze_at: number of leading parts to freeze: 0 none, 1 the stem, 2 also stage 1 (res2), and
            so on.
        stride_in_1x1: put a `Bottleneck`'s stride into its first 1x1 convolution, as weights
            converted from Caffe expect.
        cardinality: C, groups of the 3x3 convolutions of Bottlenecks.
        width_per_group: d, channels of each of these groups in the first stage; from stage to stage
            they double.
        deep_stem: three 3x3 convolutions in place of the first 7x7 one, as ResNetV1c has them.
        activation_checkpointing: compute the blocks' activations a second time in the backward
            pass instead of keeping them.

    Raises:
        ValueError: an option has a value that is not known.

    Example:
        >>> import dynbackbones
        >>> net = dynbackbones.ResNet(18, output_stride=8)
        >>> [(info.channels, info.stride) for info in net.feature_info.values()]
        [(64, 4), (128, 8), (256, 8), (512, 8)]
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        output_stride: int = 32,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        stride_in_1x1: bool = False,
        cardinality: int = 1,
        width_per_group: int = WIDTH_PER_GROUP,
        deep_stem: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels)
        check_choice("depth", depth, LAYOUTS)
        self.title = kind_title(depth, cardinality, width_per_group)
        check_choice("output_stride", output_stride, OUTPUT_STRIDES)
        make_norm = norm_layer(norm)
        add_imagenet_stem(self, in_channels, make_norm, deep_stem)
        self.feature_info = add_stages(
            self,
            depth,
            output_stride=output_stride,
            norm=make_norm,
            stride_in_1x1=stride_in_1x1,
            cardinality=cardinality,
            width_per_group=width_per_group,
        )
        if activation_checkpointing:
            set_activation_checkpointing(self)
        init_weights(self)
        self.freeze(freeze_at)
