"""The static MobileNetV2, with torchvision's parameter names."""

from collections.abc import Iterable, Iterator

from torch import nn

from dynbackbones.backbones.base import FeatureInfo
from dynbackbones.backbones.resnet import OUTPUT_STRIDES, check_choice, init_weights
from dynbackbones.backbones.static import StaticBackbone
from dynbackbones.layers.inverted import InvertedResidual
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import set_activation_checkpointing

STEM_CHANNELS, LAST_CHANNELS = 32, 1280
# Of each row of blocks: expansion, channels, number and first stride (Sandler et al., table 2), and
# the feature in which it ends.
ROWS = (
    (1, 16, 1, 1, None),
    (6, 24, 2, 2, "res2"),
    (6, 32, 3, 2, "res3"),
    (6, 64, 4, 2, None),
    (6, 96, 3, 1, "res4"),
    (6, 160, 3, 2, None),
    (6, 320, 1, 1, "res5"),
)


def scaled(channels: int, width: float) -> int:
    """Channels times a width, as a multiple of eight that is not more than a tenth less."""
    eights = max(8, int(channels * width + 4) // 8 * 8)
    return eights + 8 if eights < 0.9 * channels * width else eights


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int, stride: int, norm: NormLayer
) -> nn.Sequential:
    """A convolution without bias, its norm layer and a ReLU6."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, norm(out_channels), nn.ReLU6(inplace=True))


Row = tuple[int, int, int, int, str | None]


def rows_of_blocks(
    rows: Iterable[Row],
    channels: int,
    *,
    stride: int,
    output_stride: int,
    norm: NormLayer,
    width: float = 1.0,
    dilation: int = 1,
) -> Iterator[tuple[str | None, int, list[InvertedResidual]]]:
    """Rows of blocks, each with the feature in which it ends and its stride.

    Args:
        rows: such as `ROWS`.
        channels: of the input.
        stride: of the input.
        output_stride: beyond it dilation takes the place of strides; the first block of a row keeps
            the dilation before it.
        norm: constructor of the norm layers.
        width: factor of the channels.
        dilation: of the input.
    """
    for expansion, out_channels, count, first_stride, feature in rows:
        out_channels, first_dilation = scaled(out_channels, width), dilation
        if stride * first_stride > output_stride:
            first_stride, dilation = 1, dilation * first_stride
        stride *= first_stride
        blocks = [
            InvertedResidual(
                out_channels if number else channels,
                out_channels,
                expansion=expansion,
                stride=1 if number else first_stride,
                dilation=dilation,
                first_dilation=dilation if number else first_dilation,
                norm=norm,
            )
            for number in range(count)
        ]
        channels = out_channels
        yield feature, stride, blocks


class MobileNetV2(StaticBackbone):
    """MobileNetV2 (Sandler et al., 2018) with torchvision's parameter names and no classifier.

    Features are ``res2`` to ``res5`` with 24, 32, 96 and 320 channels times ``width``.

    Args:
        width: factor of all channels, which become multiples of eight.
        last_conv: keep the last 1x1 convolution, to 1280 channels, as a fifth feature ``res6``.
            Classifiers have it, detectors and segmentors do not need it.
        in_channels: channels of the images.
        output_stride, norm, freeze_at, activation_checkpointing: see `ResNet`.

    Raises:
        ValueError: an option has a value that is not known.

    Example:
        >>> import dynbackbones
        >>> net = dynbackbones.MobileNetV2(last_conv=True)
        >>> [(info.channels, info.stride) for info in net.feature_info.values()]
        [(24, 4), (32, 8), (96, 16), (320, 32), (1280, 32)]
        >>> round(net.macs(224, 224) / 1e6)
        299
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        last_conv: bool = False,
        in_channels: int = 3,
        output_stride: int = 32,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels)
        if not width > 0:
            raise ValueError(f"width must be positive, got {width!r}")
        check_choice("output_stride", output_stride, OUTPUT_STRIDES)
        self.title = f"MobileNetV2 ({width:g} x)"
        make_norm = norm_layer(norm)
        channels = scaled(STEM_CHANNELS, width)
        self.features = nn.Sequential(conv_norm_relu(in_channels, channels, 3, 2, make_norm))
        self.maxpool = nn.Identity()
        self.feature_info = {}
        sizes = {"stride": 2, "output_stride": output_stride, "width": width}
        for feature, stride, blocks in rows_of_blocks(ROWS, channels, norm=make_norm, **sizes):
            self.features.extend(blocks)
            channels = blocks[-1].out_channels
            if feature:
                self._add_info(feature, channels, stride)
        if last_conv:
            last = scaled(LAST_CHANNELS, max(width, 1.0))
            self.features.append(conv_norm_relu(channels, last, 1, 1, make_norm))
            self._add_info("res6", last, stride)
        if activation_checkpointing:
            set_activation_checkpointing(self)
        init_weights(self)
        self.freeze(freeze_at)

    def _add_info(self, feature: str, channels: int, stride: int) -> None:
        module = f"features.{len(self.features) - 1}"
        self.feature_info[feature] = FeatureInfo(channels, stride, module)

    @property
    def stem(self) -> nn.Sequential:
        """The first convolution with its norm layer and activation."""
        return self.features[0]

    def stages(self) -> dict[str, list[nn.Module]]:
        stages, start = {}, 1
        for name, info in self.feature_info.items():
            stop = int(info.module.rpartition(".")[2]) + 1
            stages[name] = list(self.features[start:stop])
            start = stop
        return stages

    def parts(self) -> list[list[nn.Module]]:
        return [[self.stem], *self.stages().values()]

    def timed_parts(self) -> dict[str, list[nn.Module]]:
        return {"stem": [self.stem], **self.stages()}
