"""The first layers of a residual network, before its stages."""

import torch
from torch import Tensor, nn

from dynbackbones.layers.norm import NormLayer
from dynbackbones.layers.packed import PackedConv2d
from dynbackbones.layers.residual import conv3x3, conv_out_size

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


def add_imagenet_stem(module: nn.Module, in_channels: int, norm: NormLayer) -> None:
    """Adds ``conv1`` (7x7, stride 2), ``bn1``, ``relu`` and ``maxpool`` (stride 2) to a module."""
    channels = IMAGENET_STEM_CHANNELS
    module.conv1 = nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
    module.bn1 = norm(channels)
    module.relu = nn.ReLU(inplace=True)
    module.maxpool = StemPool(3, stride=2, padding=1)


def add_cifar_stem(module: nn.Module, in_channels: int, norm: NormLayer) -> None:
    """Adds ``conv1`` (3x3, stride 1), ``bn1``, ``relu`` and a ``maxpool`` that does nothing."""
    module.conv1 = conv3x3(in_channels, CIFAR_STEM_CHANNELS)
    module.bn1 = norm(CIFAR_STEM_CHANNELS)
    module.relu = nn.ReLU(inplace=True)
    module.maxpool = nn.Identity()


def run_stem(module: nn.Module, images: Tensor) -> Tensor:
    """The output of a module's stem."""
    if isinstance(module.conv1, PackedConv2d) and isinstance(module.bn1, nn.Identity):
        return module.maxpool(module.conv1(images, relu=True))
    return module.maxpool(module.relu(module.bn1(module.conv1(images))))


def stem_macs(module: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of a module's stem for an image of this size in pixels."""
    stride = module.conv1.stride[0]
    pixels = conv_out_size(height, stride) * conv_out_size(width, stride)
    return module.conv1.weight.numel() * pixels
