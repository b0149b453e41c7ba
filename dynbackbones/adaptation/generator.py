"""The style generator: a source image's content in a target image's style (DCAN, section 6.3.2)."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dynbackbones.adaptation.decoder import MirroredDecoder
from dynbackbones.adaptation.encoder import LEVELS, VGGEncoder
from dynbackbones.layers.alignment import EPSILON, AdaIN, assign_targets, gram_matrix

MIN_SIZE = 16
"""Short side of an image in pixels; reflection padding at an eighth of it needs two."""

_TOP = LEVELS[-1]


class Synthesis(NamedTuple):
    """What the generator makes in training.

    Attributes:
        images: (N, 3, H, W), as from `StyleGenerator.synthesise`.
        losses: ``loss_content`` and ``loss_style``, scalars; their sum is eq. 6.2.
    """

    images: Tensor
    losses: dict[str, Tensor]


class StyleGenerator(nn.Module):
    """Encoder, AdaIN at its last level, decoder.

    All images are RGB of 0 to 255, float, of any size from 16 x 16 on; source and target sizes may
    differ. `PixelFormat` converts from a network's normalised images and back. What comes out is
    differentiable and not clipped to 0..255. Gradients reach the decoder alone: the encoder is
    frozen, and nothing flows back to the source and target images.

    M target images for N source images are shared as `assign_targets` says.

    Args:
        encoder: from `build_encoder`.
        decoder: None makes a new one that mirrors the encoder.
        content_weight, style_weight: of the two terms of eq. 6.2.
        eps: of `AdaIN`.
    """

    def __init__(
        self,
        encoder: VGGEncoder,
        decoder: MirroredDecoder | None = None,
        *,
        content_weight: float = 1.0,
        style_weight: float = 1.0,
        eps: float = EPSILON,
    ) -> None:
        super().__init__()
        for name, value in (("content_weight", content_weight), ("style_weight", style_weight)):
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value!r}")
        self.encoder = encoder
        self.decoder = decoder or MirroredDecoder(encoder.channels, encoder.convolutions)
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.adain = AdaIN(eps)

    def synthesise(self, source: Tensor, target: Tensor) -> Tensor:
        """The source images in the style of the targets.

        Args:
            source: (N, 3, H, W).
            target: (M, 3, H', W').

        Returns:
            (N, 3, H, W) float32.

        Raises:
            ValueError: images are of another shape, type or too small, or M does not go with N.
        """
        return self._decode(self._aligned(source, target)[0], source)

    def forward(self, source: Tensor, target: Tensor) -> Synthesis:
        """As `synthesise`, with the losses to train by (DCAN, eq. 6.2)."""
        aligned, style = self._aligned(source, target)
        images = self._decode(aligned, source)
        levels = self.encoder(images)
        losses = {
            "loss_content": self.content_weight * content_distance(levels[_TOP], aligned),
            "loss_style": self.style_weight * style_distance(levels, style),
        }
        return Synthesis(images, losses)

    def reconstruction_loss(self, images: Tensor) -> Tensor:
        """How far decoding what was encoded is from the images, to train both before their use.

        This is not the paper's, whose encoder is VGG-19. A small encoder can be trained by it,
        together with the decoder and without labels: ``generator.encoder.requires_grad_(True)``
        first, ``requires_grad_(False)`` afterwards. With either encoder it gives eq. 6.2 a decoder
        to start from.

        Args:
            images: (N, 3, H, W), of either domain.

        Returns:
            A scalar, the mean square in units of the encoder's normalisation.
        """
        _check_images("reconstructed", images)
        size = (int(images.shape[-2]), int(images.shape[-1]))
        decoded = self.decoder(self.encoder(images)[_TOP], size)
        return (decoded.float() - self.encoder.pixels.from_rgb(images)).square().mean()

    @torch.no_grad()
    def _aligned(self, source: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The aligned features of the source, and all levels of the target."""
        _check_images("source", source)
        _check_images("target", target)
        style = self.encoder(target)
        return self.adain(self.encoder(source)[_TOP], style[_TOP]), style

    def _decode(self, features: Tensor, source: Tensor) -> Tensor:
        size = (int(source.shape[-2]), int(source.shape[-1]))
        return self.encoder.pixels.to_rgb(self.decoder(features, size))


def content_distance(features: Tensor, target: Tensor) -> Tensor:
    """First term of eq. 6.2, as a root mean square.

    The paper's norm grows with the square root of C * H * W and would outweigh the style by orders
    of magnitude; divided by it, it is of the order of the features, whatever the size of the
    image, as the Gram matrices are.

    Args:
        features: (N, C, H, W), of the synthesised images.
        target: (N, C, H, W), the aligned features of the source images.

    Returns:
        A scalar, the mean over images.
    """
    difference = (features.float() - target.float()).flatten(1)
    norms = torch.linalg.vector_norm(difference, dim=1)
    return norms.mean() / difference.shape[1] ** 0.5


def style_distance(levels: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Second term of eq. 6.2: the Frobenius distance of Gram matrices, summed over levels.

    See `gram_matrix` for what they are divided by.

    Args:
        levels: level to (N, C, H, W), of the synthesised images.
        targets: level to (M, C, H', W'), of the target images.

    Returns:
        A scalar, the mean over images.
    """
    total = 0.0
    for level, features in levels.items():
        target = assign_targets(gram_matrix(targets[level]), len(features))
        difference = (gram_matrix(features) - target).flatten(1)
        total = total + torch.linalg.vector_norm(difference, dim=1).mean()
    return total


def _check_images(name: str, images: Tensor) -> None:
    if images.dim() != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ValueError(f"{name} images must be (N, 3, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"{name} images must be floating point, got {images.dtype}")
    if min(images.shape[-2:]) < MIN_SIZE:
        height, width = images.shape[-2:]
        raise ValueError(
            f"{name} images must be at least {MIN_SIZE} x {MIN_SIZE} pixels, got {height} x {width}"
        )
