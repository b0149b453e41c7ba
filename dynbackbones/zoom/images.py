"""Images that are read in parts: reduced as a whole, and crops at full resolution."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from dynbackbones.layers.patches import Box


@runtime_checkable
class ImageSource(Protocol):
    """An image larger than one would hold as floating-point numbers.

    Attributes:
        size: (height, width) in pixels.
    """

    size: tuple[int, int]

    def reduced(self, size: tuple[int, int]) -> Tensor:
        """The whole image at a (height, width): (C, height, width)."""

    def crop(self, box: Box) -> Tensor:
        """The pixels between x1, y1, x2, y2: (C, y2 - y1, x2 - x1)."""


class TensorImage:
    """A tensor (C, H, W) as an `ImageSource`; its type stays, so that bytes stay bytes."""

    def __init__(self, image: Tensor) -> None:
        if image.dim() != 3:
            raise ValueError(f"an image must be (C, H, W), got {tuple(image.shape)}")
        self.image = image
        self.size = (image.shape[1], image.shape[2])

    def reduced(self, size: tuple[int, int]) -> Tensor:
        return resized(self.image, size)

    def crop(self, box: Box) -> Tensor:
        x1, y1, x2, y2 = box
        return self.image[:, y1:y2, x1:x2]


def as_source(image: Tensor | ImageSource) -> ImageSource:
    """A tensor as an `ImageSource`; one of these as it is."""
    return TensorImage(image) if isinstance(image, Tensor) else image


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, H, W) to another size, bilinear, with antialiasing where it shrinks."""
    if image.shape[1:] == torch.Size(size):
        return image
    # On a GPU torch resizes no bytes.
    exact = image.is_floating_point() or (image.dtype == torch.uint8 and not image.is_cuda)
    enlarged = F.interpolate(
        (image if exact else image.float())[None], size=size, mode="bilinear", antialias=True
    )[0]
    return enlarged if exact else enlarged.round().to(image.dtype)
