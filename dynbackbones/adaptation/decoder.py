"""The decoder of the style generator: its encoder, mirrored."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.adaptation.encoder import (
    VGG19_CHANNELS,
    VGG19_CONVOLUTIONS,
    init_convolutions,
)


class MirroredDecoder(nn.Module):
    """From an encoder's relu4_1 back to an image (Huang and Belongie, 2017).

    Its convolutions are a `VGGEncoder`'s in reverse order, with reflection padding against
    artefacts at the border; nearest upsampling stands for max-pooling, and there is no
    normalisation.

    Args:
        channels, convolutions: of the encoder.

    Shape:
        (N, channels[3], H // 8, W // 8) and the size (H, W) to (N, 3, H, W), in the encoder's
        normalisation and unbounded. Sizes not divisible by 8 are upsampled by slightly more than
        2 on the way.
    """

    def __init__(
        self,
        channels: Sequence[int] = VGG19_CHANNELS,
        convolutions: Sequence[int] = VGG19_CONVOLUTIONS,
    ) -> None:
        super().__init__()
        befores = (3, *channels[:-1])
        levels = []
        for before, width, count in zip(befores, channels, convolutions, strict=True):
            layers: list[nn.Module] = []
            for number in reversed(range(count)):
                out = width if number else before
                layers.append(nn.Conv2d(width, out, 3, padding=1, padding_mode="reflect"))
                layers.append(nn.ReLU(inplace=True))
            levels.insert(0, nn.Sequential(*layers))
        # The image itself may be of any sign.
        levels[-1] = levels[-1][:-1]
        self.levels = nn.ModuleList(levels)
        init_convolutions(self)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        x = features
        for index, level in enumerate(self.levels):
            if index:
                halvings = len(self.levels) - 1 - index
                x = F.interpolate(x, (size[0] >> halvings, size[1] >> halvings), mode="nearest")
            x = level(x)
        return x
