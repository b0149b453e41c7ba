"""Where the images of a padded batch end, as each framework tells a model.

Read off the arguments alone, so that no framework is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from dynbackbones.backbones.base import find_backbones

Sizes = list[tuple[int, int]]


def pass_image_sizes(model: nn.Module, args: tuple, kwargs: dict) -> None:
    """Forward pre-hook of a model: tells its backbones where the images of the batch end."""
    sizes = _of_detectron2(args)
    if sizes is None:
        sizes = _of_openmmlab(model, args, kwargs)
    if sizes is not None:
        for backbone in find_backbones(model):
            backbone.set_image_sizes(sizes)


def forward_arguments(args: tuple, kwargs: dict) -> dict[str, Any]:
    """What a model of OpenMMLab's was called with: ``inputs``, ``data_samples``, ``mode``."""
    return {**dict(zip(("inputs", "data_samples", "mode"), args, strict=False)), **kwargs}


def padded_sizes(inputs: Any, samples: Sequence[Any] | None) -> Sizes | None:
    """Height and width in pixels of each image, as OpenMMLab's data preprocessors note them.

    Args:
        inputs: what a model gets; (N, C, H, W) if anything is padded.
        samples: of the N images.

    Returns:
        None where no image is padded, or sizes are not known.
    """
    if not isinstance(inputs, Tensor) or inputs.dim() != 4 or not samples:
        return None
    if not all(hasattr(sample, "metainfo") for sample in samples):
        return None
    sizes = [tuple(sample.metainfo.get("img_shape", ())[:2]) for sample in samples]
    height, width = inputs.shape[-2:]
    inside = all(len(size) == 2 and size[0] <= height and size[1] <= width for size in sizes)
    return sizes if inside and any(size != (height, width) for size in sizes) else None


def _of_detectron2(args: tuple) -> Sizes | None:
    """``args`` is ``(batched_inputs,)``, dicts with an ``"image"`` (C, H, W)."""
    inputs = args[0] if args else None
    if not isinstance(inputs, Sequence) or not inputs:
        return None
    if not all(isinstance(entry, Mapping) and "image" in entry for entry in inputs):
        return None
    return [tuple(map(int, entry["image"].shape[-2:])) for entry in inputs]


def _of_openmmlab(model: nn.Module, args: tuple, kwargs: dict) -> Sizes | None:
    given = forward_arguments(args, kwargs)
    # Windows of an image are passes of another size.
    test_cfg = getattr(model, "test_cfg", None) or {}
    if given.get("mode") == "predict" and test_cfg.get("mode") == "slide":
        return None
    samples = given.get("data_samples")
    return padded_sizes(given.get("inputs"), samples if isinstance(samples, Sequence) else None)
