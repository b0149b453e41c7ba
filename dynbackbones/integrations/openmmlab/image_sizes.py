"""Where the images of a padded batch end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dynbackbones.backbones.base import find_backbones


def pass_image_sizes(model: nn.Module, args: tuple, kwargs: dict) -> None:
    """Forward pre-hook: tells the backbones where the images of a padded batch end."""
    given = forward_arguments(args, kwargs)
    # Windows of an image are passes of another size.
    test_cfg = getattr(model, "test_cfg", None) or {}
    if given.get("mode") == "predict" and test_cfg.get("mode") == "slide":
        return
    sizes = padded_sizes(given.get("inputs"), given.get("data_samples"))
    if sizes is not None:
        for backbone in find_backbones(model):
            backbone.set_image_sizes(sizes)


def forward_arguments(args: tuple, kwargs: dict) -> dict[str, Any]:
    """What a model of OpenMMLab's was called with: ``inputs``, ``data_samples``, ``mode``."""
    return {**dict(zip(("inputs", "data_samples", "mode"), args, strict=False)), **kwargs}


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
