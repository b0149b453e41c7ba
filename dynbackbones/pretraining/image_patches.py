"""Patches of an image, all of one size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def cut_patches(image: np.ndarray, boxes: Sequence[Sequence[float]], size: int) -> Tensor:
    """Cuts boxes out of an image and resizes them, whatever their shape, to squares.

    Args:
        image: (H, W, 3) uint8.
        boxes: left, top, right and bottom of each in pixels; all pixels that it touches are cut.
        size: edge of a patch in pixels; the chapter's is 224.

    Returns:
        (N, 3, size, size) uint8, in the image's order of channels.

    Raises:
        ValueError: a box has no pixel of the image.

    Example:
        >>> import numpy as np
        >>> from dynbackbones.pretraining import cut_patches
        >>> cut_patches(np.zeros((48, 64, 3), np.uint8), [(8, 8, 40, 24)], 32).shape
        torch.Size([1, 3, 32, 32])
    """
    height, width = image.shape[:2]
    patches = torch.empty(len(boxes), 3, size, size, dtype=torch.uint8)
    for index, (left, top, right, bottom) in enumerate(boxes):
        rows = slice(max(math.floor(top), 0), min(math.ceil(bottom), height))
        columns = slice(max(math.floor(left), 0), min(math.ceil(right), width))
        part = image[rows, columns]
        if part.size == 0:
            raise ValueError(
                f"box {(left, top, right, bottom)} has no pixel of an image of {width} x {height}"
            )
        pixels = torch.from_numpy(np.array(part)).permute(2, 0, 1)[None]
        patches[index] = F.interpolate(
            pixels, (size, size), mode="bilinear", antialias=True, align_corners=False
        )[0]
    return patches
