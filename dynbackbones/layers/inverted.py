"""MobileNetV2's blocks: many channels between few, depthwise convolutions."""

from torch import Tensor, nn

from dynbackbones.layers.convolutions import conv1x1, conv3x3, conv_out_size
from dynbackbones.layers.norm import NormLayer
from dynbackbones.layers.residual import ResidualBlock


class NoShortcut(nn.Module):
    """Zeros in the shape of a block's output: (N, C, H, W) to (N, channels, H / s, W / s)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        size = (conv_out_size(length, self.stride) for length in x.shape[2:])
        return x.new_zeros(()).expand(len(x), self.channels, *size)


class InvertedResidual(ResidualBlock):
    """1x1, depthwise 3x3 and 1x1 convolutions (Sandler et al., 2018); see `ResidualBlock`.

    ``expansion`` is t, channels between the convolutions per channel of the input; with 1 there is
    no first convolution. No activation follows the sum, and where the size or the number of
    channels changes there is no sum. Parameters have torchvision's names.
    """

    activation = nn.ReLU6
    expansion = 6
    linear = True

    def _inner_channels(self) -> int:
        return round(self.in_channels * self.expansion)

    def _convs(self, width, stride, first_dilation, dilation, stride_in_1x1):
        first = [] if self.expansion == 1 else [conv1x1(self.in_channels, width, 1, self.groups)]
        return [
            *first,
            conv3x3(width, width, stride, first_dilation, groups=width),
            conv1x1(width, self.out_channels, 1, self.groups),
        ]

    def _add_layers(self, convs: list[nn.Conv2d], norm: NormLayer) -> None:
        *first, last = [(conv, norm(conv.out_channels)) for conv in convs]
        self.conv = nn.Sequential(*(nn.Sequential(*pair) for pair in first), *last)

    def residual_layers(self) -> list[tuple[nn.Conv2d, nn.Module]]:
        *first, conv, norm = self.conv
        return [*((pair[0], pair[1]) for pair in first), (conv, norm)]

    def _shortcut(self, stride: int, norm: NormLayer, pooled: bool) -> nn.Sequential | None:
        if stride == 1 and self.in_channels == self.out_channels:
            return None
        return nn.Sequential(NoShortcut(self.out_channels, stride))

    @property
    def has_shortcut(self) -> bool:
        """Whether anything is added to the residual branch."""
        return self.downsample is None or not isinstance(self.downsample[0], NoShortcut)

    def _forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None and not self.has_shortcut:
            return self.residual(x)
        return super()._forward(x, mask)


class ProjectedInvertedResidual(InvertedResidual):
    """An `InvertedResidual` with a shortcut where channels change, a 1x1 one in ``groups``."""

    def _shortcut(self, stride: int, norm: NormLayer, pooled: bool) -> nn.Sequential | None:
        if self.in_channels == self.out_channels:
            return super()._shortcut(stride, norm, pooled)
        conv = conv1x1(self.in_channels, self.out_channels, stride, self.groups)
        return nn.Sequential(conv, norm(self.out_channels))
