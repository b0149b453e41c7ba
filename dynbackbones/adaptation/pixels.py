"""What the numbers in an image tensor mean: the generator's images and a network's."""

from dataclasses import dataclass

import torch
from torch import Tensor

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class PixelFormat:
    """The normalisation of a network's images: ``(pixel - mean) / std`` for pixels of 0 to 255.

    The default is torchvision's, and of most of OpenMMLab's configs. mean 0 and std 1 are plain
    pixels.

    Args:
        mean, std: of each channel, in the network's order of channels.
        bgr: the network's images are BGR (detectron2's usual ones are).

    Raises:
        ValueError: ``mean`` or ``std`` is not three numbers, or ``std`` is not positive.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    bgr: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            if len(getattr(self, name)) != 3:
                raise ValueError(f"{name} must be three numbers, got {getattr(self, name)}")
        if not min(self.std) > 0:
            raise ValueError(f"std must be positive, got {self.std}")

    def to_rgb(self, images: Tensor) -> Tensor:
        """From a network's (N, 3, H, W) images to RGB of 0 to 255, float32."""
        mean, std = self._constants(images)
        images = images.float() * std + mean
        return images.flip(1) if self.bgr else images

    def from_rgb(self, images: Tensor) -> Tensor:
        """From (N, 3, H, W) RGB of 0 to 255 to a network's images, float32."""
        mean, std = self._constants(images)
        images = images.flip(1) if self.bgr else images
        return (images.float() - mean) / std

    def _constants(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
        return tuple(
            torch.tensor(values, dtype=torch.float32, device=images.device)[:, None, None]
            for values in (self.mean, self.std)
        )
