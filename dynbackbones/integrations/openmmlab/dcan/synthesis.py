"""A style generator's images for a network: the numbers, sizes and padding that it expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.adaptation import PixelFormat, StyleGenerator, Synthesis


@dataclass(frozen=True)
class Synthesiser:
    """Draws a network's images in the style of others.

    Attributes:
        generator: what draws them.
        pixels: what the numbers in the network's images mean.
        scale: images are enlarged by this factor for the generator.
        with_losses: whether its losses are wanted.
    """

    generator: StyleGenerator
    pixels: PixelFormat
    scale: float
    with_losses: bool

    def __call__(
        self, source: Tensor, targets: Tensor, sizes: Sequence[tuple[int, int]] | None = None
    ) -> Synthesis:
        """Draws the source images in the style of the targets.

        Args:
            source: (N, 3, H, W), normalised and padded as the network gets them.
            targets: (N, 3, H', W'), normalised.
            sizes: (height, width) of each source image without padding, which stays as it is and
                counts nowhere; None where nothing is padded.

        Returns:
            Images like ``source``, and the generator's losses, if they are wanted.
        """
        if sizes is None:
            return self._draw(source, targets)
        images, losses = source.clone(), []
        for index, (height, width) in enumerate(sizes):
            one = slice(index, index + 1)
            drawn = self._draw(source[one, :, :height, :width], targets[one])
            images[one, :, :height, :width] = drawn.images
            losses.append(drawn.losses)
        means = {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}
        return Synthesis(images, means)

    def _draw(self, source: Tensor, targets: Tensor) -> Synthesis:
        inputs = (self._enlarged(self.pixels.to_rgb(images)) for images in (source, targets))
        if self.with_losses:
            images, losses = self.generator(*inputs)
        else:
            images, losses = self.generator.synthesise(*inputs), {}
        return Synthesis(self.pixels.from_rgb(_resized(images, *source.shape[-2:])), losses)

    def _enlarged(self, images: Tensor) -> Tensor:
        return _resized(images, *(round(self.scale * side) for side in images.shape[-2:]))


def pixel_format(preprocessor: nn.Module) -> PixelFormat:
    """What the numbers in a model's images mean, from mmengine's or mmseg's data preprocessor."""
    # The original mmseg and its fork call it differently.
    names = ("_channel_conversion", "channel_conversion")
    bgr = not any(getattr(preprocessor, name, False) for name in names)
    if not getattr(preprocessor, "_enable_normalize", False):
        return PixelFormat((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), bgr)
    mean, std = (getattr(preprocessor, name).flatten().tolist() for name in ("mean", "std"))
    return PixelFormat(tuple(mean), tuple(std), bgr)


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    if tuple(images.shape[-2:]) == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)
