"""The encoder of the style generator: a fixed VGG network up to its relu4_1."""

import os
from collections.abc import Sequence

from torch import Tensor, nn

from dynbackbones.adaptation.pixels import PixelFormat
from dynbackbones.adaptation.weights import load_weights
from dynbackbones.checkpoints import cached_path
from dynbackbones.errors import UserError

LEVELS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
VGG19_CHANNELS = (64, 128, 256, 512)
VGG19_CONVOLUTIONS = (2, 2, 4, 1)
VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
ENCODERS = ("vgg19", "small_vgg")
RANDOM = "random"


class VGGEncoder(nn.Module):
    """VGG (Simonyan and Zisserman, 2015) up to the first ReLU of its fourth level.

    Parameters are frozen, and gradients flow through to the images. They have torchvision's names,
    ``features.0.weight`` and so on. Random ones do not serve the style generator: what AdaIN makes
    of their features corresponds to no image. `StyleGenerator.reconstruction_loss` can train them.

    Args:
        channels: of the four levels.
        convolutions: 3x3 convolutions of the four levels; one in the last, which ends in relu4_1.
        pixels: the normalisation of images that the weights expect, which `forward` applies.

    Shape:
        (N, 3, H, W) RGB of 0 to 255, of any size from 8 x 8 on, to a dict from ``"relu1_1"`` to
        ``"relu4_1"`` of (N, channels[l], H // 2^l, W // 2^l).

    Raises:
        ValueError: ``channels`` or ``convolutions`` is not four positive integers, or the last of
            ``convolutions`` is not 1.
    """

    def __init__(
        self,
        channels: Sequence[int] = VGG19_CHANNELS,
        convolutions: Sequence[int] = VGG19_CONVOLUTIONS,
        pixels: PixelFormat | None = None,
    ) -> None:
        super().__init__()
        for name, values in (("channels", channels), ("convolutions", convolutions)):
            if len(values) != len(LEVELS) or not all(
                isinstance(value, int) and value >= 1 for value in values
            ):
                raise ValueError(f"{name} must be four positive integers, got {values!r}")
        if convolutions[-1] != 1:
            raise ValueError(f"the last of convolutions must be 1, got {convolutions!r}")
        self.channels = tuple(channels)
        self.convolutions = tuple(convolutions)
        self.pixels = pixels or PixelFormat()
        layers: list[nn.Module] = []
        self._taken: dict[int, str] = {}  # index of a layer -> level that it ends
        before = 3
        for level, width, count in zip(LEVELS, channels, convolutions, strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2, stride=2))
            for number in range(count):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
                before = width
                if number == 0:
                    self._taken[len(layers) - 1] = level
        self.features = nn.Sequential(*layers)
        init_convolutions(self)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, levels = self.pixels.from_rgb(images), {}
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._taken:
                levels[self._taken[index]] = x
        return levels


def build_encoder(
    name: str = "vgg19",
    *,
    weights: str | os.PathLike | None = None,
    channels: Sequence[int] = (16, 32, 64, 128),
    convolutions: Sequence[int] = (2, 2, 2, 1),
) -> VGGEncoder:
    """An encoder by name.

    Args:
        name: ``"vgg19"``, or ``"small_vgg"``, for which see `VGGEncoder`.
        weights: a file or URL, for which see `load_weights`, or ``"random"``. For ``"vgg19"``, None
            is the place where torchvision keeps its weights: ``vgg19-dcbb9e9d.pth`` in torch's
            cache.
        channels, convolutions: of a ``"small_vgg"``.

    Raises:
        UserError: the name is not known, or weights are missing or another network's.
    """
    if name not in ENCODERS:
        raise UserError(f"encoder {name!r} is not known; choose {' or '.join(ENCODERS)}")
    if weights is None and name == "small_vgg":
        raise UserError(
            "encoder small_vgg has no weights of its own: name a file, or 'random' to train it "
            "first (encoder_weights=... of a generator, weights=... of an encoder)"
        )
    if weights is None:
        weights = cached_path(VGG19_URL)
        if not weights.exists():
            raise UserError(
                f"the weights of VGG-19 are missing: download {VGG19_URL} to {weights}, or give "
                "another file or URL (encoder_weights=... of a generator, weights=... of an "
                "encoder)"
            )
    encoder = VGGEncoder() if name == "vgg19" else VGGEncoder(channels, convolutions)
    if weights != RANDOM:
        load_weights(encoder, weights)
    return encoder


def init_convolutions(module: nn.Module) -> None:
    """He initialisation of the convolutions, biases 0: activations keep their scale."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, nonlinearity="relu")
            nn.init.zeros_(child.bias)
