"""The order of channels that weights know, as far as their file says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dynbackbones.checkpoints.classes import mapping

# In configs of mmpretrain's, mmseg's and mmdet's, whose readers give BGR.
_TURNED = re.compile(r"\b(?:bgr_)?to_rgb\s*=\s*(True|False)")
# Whose classifiers are trained on RGB.
_RGB = ("torchvision", "timm")


def pixel_format(checkpoint: Mapping[str, Any]) -> str | None:
    """``"RGB"`` or ``"BGR"``, as the images were that a checkpoint was trained on.

    Args:
        checkpoint: a file's content, as `dynbackbones.checkpoints.load` returns it.

    Returns:
        None where the file does not say.
    """
    meta = mapping(checkpoint.get("meta"))
    source = mapping(meta.get("source"))  # of a conversion, perhaps of another one's result
    before = mapping(source.get("made_from"))
    configs = meta.get("cfg"), source.get("config"), before.get("config")
    turned = _TURNED.search("\n".join(str(config) for config in configs))
    if turned:
        return "RGB" if turned[1] == "True" else "BGR"
    return "RGB" if source.get("origin") in _RGB else None
