"""Weights know one order of channels: what their file says of it, against a detector's config."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dynbackbones.checkpoints.pixels import pixel_format


def warn_of_other_pixels(
    checkpoint: Mapping[str, Any], file: str, input_format: str | None, logger: logging.Logger
) -> None:
    """Warns where weights were trained on images of another format than those they will see.

    Args:
        checkpoint: the content of ``file``.
        file: of ``MODEL.WEIGHTS``.
        input_format: ``INPUT.FORMAT`` of the detector; None where it has none.
        logger: of the engine.
    """
    trained = pixel_format(checkpoint)
    if trained and input_format and trained != input_format:
        logger.warning(
            f"{file} was trained on {trained} images, and INPUT.FORMAT is {input_format}: set "
            f"INPUT.FORMAT {trained}, and MODEL.PIXEL_MEAN and PIXEL_STD in that order, or the "
            "backbone sees other colours than it learned"
        )
