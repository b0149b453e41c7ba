"""The first layers of a residual network, before its stages."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from dynbackbones.layers.convolutions import chain_macs, conv3x3
from dynbackbones.layers.norm import NormLayer
from dynbackbones.layers.packed import PackedConv2d

IMAGENET_STEM_CHANNELS = 64
CIFAR_STEM_CHANNELS = 16


class StemPool(nn.MaxPool2d):
    """Max-pooling that is several times faster on a CPU in inference, with the same result.

    PyTorch's kernel for channels-last tensors is vectorised, that for contiguous ones is not; on
    one thread the latter takes 4 % of a ResNet-101.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.is_grad_enabled() or not x.is_contiguous():
            return super().forward(x)
        return super().forward(x.contiguous(memory_format=torch.channels_last)).contiguous()


def add_imagenet_stem(
    module: nn.Module, in_channels: int, norm: NormLayer, deep: bool = False
) -> None:
    """Adds ``conv1`` (7x7, stride 2), ``bn1``, ``relu`` and ``maxpool`` (stride 2) to a module.

    A ``deep`` one has three 3x3 convolutions instead (He et al., Bag of Tricks, 2019), as ``stem``
    in place of ``conv1`` and ``bn1``, which is how OpenMMLab's ResNetV1c names them.
    """
    channels = IMAGENET_STEM_CHANNELS
    if deep:
        widths = [in_channels, channels // 2, channels // 2, channels]
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(widths)):
            conv = conv3x3(before, after, stride=1 if index else 2)
            layers += [conv, norm(after), nn.ReLU(inplace=True)]
        module.stem = nn.Sequential(*layers)
    else:
        module.conv1 = nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
        module.bn1 = norm(channels)
    module.relu = nn.ReLU(inplace=True)
    module.maxpool = StemPool(3, stride=2, padding=1)


def add_cifar_stem(
    module: nn.Module, in_channels: int, norm: NormLayer, channels: int = CIFAR_STEM_CHANNELS
) -> None:
    """Adds ``conv1`` (3x3, stride 1), ``bn1``, ``relu`` and a ``maxpool`` that does nothing."""
    module.conv1 = conv3x3(in_channels, channels)
    module.bn1 = norm(channels)
    module.relu = nn.ReLU(inplace=True)
    module.maxpool = nn.Identity()


def stem_layers(module: nn.Module) -> list[nn.Module]:
    """What of a module's stem has weights."""
    return [module.stem] if hasattr(module, "stem") else [module.conv1, module.bn1]


def run_stem(module: nn.Module, images: Tensor) -> Tensor:
    """The output of a module's stem."""
    if hasattr(module, "stem"):
        return module.maxpool(module.stem(images))
    if isinstance(module.conv1, PackedConv2d) and isinstance(module.bn1, nn.Identity):
        return module.maxpool(module.conv1(images, relu=True))
    return module.maxpool(module.relu(module.bn1(module.conv1(images))))


def stem_macs(module: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of a module's stem for an image of this size in pixels."""
    first = stem_layers(module)[0]
    return chain_macs(first if isinstance(first, nn.Sequential) else [first], height, width)
