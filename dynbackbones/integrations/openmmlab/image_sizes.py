"""Where the images of a padded batch end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def padded_sizes(inputs: Any, samples: Sequence[Any] | None) -> list[tuple[int, int]] | None:
    """Height and width in pixels of each image, as the data preprocessor noted them.

    Args:
        inputs: what a model gets; (N, C, H, W) if anything is padded.
        samples: of the N images.

    Returns:
        None where no image is padded, or sizes are not known.
    """
    if not isinstance(inputs, torch.Tensor) or inputs.dim() != 4 or not samples:
        return None
    sizes = [tuple(sample.metainfo.get("img_shape", ())[:2]) for sample in samples]
    height, width = inputs.shape[-2:]
    inside = all(len(size) == 2 and size[0] <= height and size[1] <= width for size in sizes)
    return sizes if inside and any(size != (height, width) for size in sizes) else None
