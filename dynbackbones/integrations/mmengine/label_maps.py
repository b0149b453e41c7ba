"""Whether a label map is one: a class number for each pixel of its image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dynbackbones.data import images
from dynbackbones.errors import UserError

_DEEP_FILES = (".png", ".tif", ".tiff", ".pgm")


def check_label_map(results: Mapping[str, Any]) -> None:
    """Refuses label maps in colours, and those of another size than their image.

    Args:
        results: of OpenMMLab's pipelines, as ``LoadAnnotations`` leaves it.

    Raises:
        UserError: so it is; names the file.
    """
    labels, path = results["gt_seg_map"], results.get("seg_map_path")
    if labels.ndim != 2:
        raise UserError(
            f"label map {path} has {labels.shape[-1]} values for each pixel: it is a picture in "
            "colours, where a class number per pixel is wanted; convert it to one channel (or, of "
            "a palette, load it with imdecode_backend='pillow')"
        )
    expected = tuple(results.get("ori_shape", labels.shape))[:2]
    if labels.shape == expected:
        return
    width, height = images.turned_size(results.get("img_path", "")) or (0, 0)
    remedy = "leave it out of the dataset, or mend it"
    raise UserError(
        f"label map {path} has {labels.shape[0]} x {labels.shape[1]} pixels, its image "
        f"{expected[0]} x {expected[1]}; "
        f"{images.EXIF_REMEDY if labels.shape == (height, width) else remedy}"
    )


def check_depth(path: str | os.PathLike | None) -> None:
    """Refuses a file of class numbers above 255, which mmseg cuts to 8 bits.

    Raises:
        UserError: so it is.
    """
    if path is None or Path(path).suffix.lower() not in _DEEP_FILES or not os.path.isfile(path):
        return
    with Image.open(path) as image:
        highest = np.asarray(image).max() if image.mode.startswith("I") else 0
    if highest > 255:
        raise UserError(
            f"label map {path} has values up to {highest}, and mmseg keeps the lowest 8 bits of "
            "them; write class numbers up to 255 into it"
        )
