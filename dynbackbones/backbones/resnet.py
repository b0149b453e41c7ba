"""The static ResNet: reference and baseline of the dynamic backbones."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import Backbone, FeatureInfo
from dynbackbones.backbones.decisions import Decisions
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import (
    BasicBlock,
    Bottleneck,
    ResidualBlock,
    set_activation_checkpointing,
    strided,
)

LAYOUTS: dict[int, tuple[type[ResidualBlock], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}
OUTPUT_STRIDES = (8, 16, 32)
STEM_CHANNELS = 64


def check_choice(name: str, value, choices: Sequence) -> None:
    """Raises a ValueError that names the option unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def add_stem(module: nn.Module, in_channels: int, norm: NormLayer) -> None:
    """Adds ``conv1``, ``bn1``, ``relu`` and ``maxpool`` of an ImageNet ResNet to a module."""
    module.conv1 = nn.Conv2d(in_channels, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
    module.bn1 = norm(STEM_CHANNELS)
    module.relu = nn.ReLU(inplace=True)
    module.maxpool = nn.MaxPool2d(3, stride=2, padding=1)


def init_weights(module: nn.Module) -> None:
    """He initialisation of the convolutions; norm layers keep their own (gamma 1, beta 0)."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")


def feature_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Size of a feature map of this stride for an input of ``size`` pixels."""
    return strided(size[0], stride), strided(size[1], stride)


class ResNet(Backbone):
    """ResNet (He et al., 2016) with torchvision's parameter names and no classifier.

    Args:
        depth: 18, 34, 50 or 101.
        in_channels: channels of the images.
        output_stride: 32, 16 or 8; the lower two trade the strides of the last stages for
            dilation, the first block of a stage keeping the dilation before it.
        norm: ``"BN"``, ``"SyncBN"``, ``"FrozenBN"`` or a constructor; see `norm_layer`.
        freeze_at: see `Backbone.freeze`.
        stride_in_1x1: see `ResidualBlock`.
        activation_checkpointing: compute the blocks' activations a second time in the backward
            pass instead of keeping them.

    Raises:
        ValueError: an option has a value that is not known.
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
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels)
        check_choice("depth", depth, LAYOUTS)
        check_choice("output_stride", output_stride, OUTPUT_STRIDES)
        block, counts = LAYOUTS[depth]
        make_norm = norm_layer(norm)
        add_stem(self, in_channels, make_norm)
        self.feature_info = {}
        channels, stride, dilation = STEM_CHANNELS, 4, 1
        for index, count in enumerate(counts, start=1):
            out_channels = 64 * 2 ** (index - 1) * block.expansion
            first_dilation, first_stride = dilation, 1 if index == 1 else 2
            if stride * first_stride > output_stride:
                first_stride, dilation = 1, dilation * 2
            stride *= first_stride
            blocks = [
                block(
                    channels if number == 0 else out_channels,
                    out_channels,
                    stride=first_stride if number == 0 else 1,
                    dilation=dilation,
                    first_dilation=first_dilation if number == 0 else dilation,
                    norm=make_norm,
                    stride_in_1x1=stride_in_1x1,
                )
                for number in range(count)
            ]
            self.add_module(f"layer{index}", nn.Sequential(*blocks))
            channels = out_channels
            self.feature_info[f"res{index + 1}"] = FeatureInfo(channels, stride, f"layer{index}")
        if activation_checkpointing:
            set_activation_checkpointing(self)
        init_weights(self)
        self.freeze(freeze_at)

    def forward(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Tensor]:
        sizes = self._check_inputs(images, image_sizes)
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = {}
        for name, info in self.feature_info.items():
            x = features[name] = getattr(self, info.module)(x)
        sizes = sizes or [(int(images.shape[-2]), int(images.shape[-1]))] * len(images)
        macs = torch.tensor([self.macs(*size) for size in sizes], dtype=torch.float64)
        self.decisions = Decisions(sizes, macs)
        return features

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for an image of this size in pixels."""
        total = self.conv1.weight.numel() * strided(height, 2) * strided(width, 2)
        size = feature_size((height, width), 4)
        for info in self.feature_info.values():
            for block in getattr(self, info.module):
                total += block.macs(*size)
                size = feature_size((height, width), info.stride)
        return total
