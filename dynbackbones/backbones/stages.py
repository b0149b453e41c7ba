"""The four stages of an ImageNet ResNet."""

from torch import nn

from dynbackbones.backbones.base import FeatureInfo
from dynbackbones.backbones.resnet import LAYOUTS
from dynbackbones.layers.norm import NormLayer
from dynbackbones.layers.stem import IMAGENET_STEM_CHANNELS


def add_stages(
    net: nn.Module,
    depth: int,
    *,
    output_stride: int,
    norm: NormLayer,
    stride_in_1x1: bool,
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
        stage: class of the stages.

    Returns:
        What the features are.
    """
    block, counts = LAYOUTS[depth]
    infos: dict[str, FeatureInfo] = {}
    channels, stride, dilation = IMAGENET_STEM_CHANNELS, 4, 1
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
                norm=norm,
                stride_in_1x1=stride_in_1x1,
            )
            for number in range(count)
        ]
        net.add_module(f"layer{index}", stage(*blocks))
        channels = out_channels
        infos[f"res{index + 1}"] = FeatureInfo(channels, stride, f"layer{index}")
    return infos
