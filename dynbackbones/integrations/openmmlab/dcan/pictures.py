"""Pictures of what a style generator makes."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from dynbackbones.integrations.openmmlab.pictures import titled

COLUMNS = ("source", "target", "synthesised")


def style_picture(source: Tensor, target: Tensor, synthesised: Tensor) -> np.ndarray:
    """A row for each source image: it, its target and what was made of both.

    Args:
        source, target, synthesised: (N, 3, H, W) RGB of 0 to 255; targets of another size are
            shown in the source's.

    Returns:
        uint8, RGB.
    """
    target = F.interpolate(target, tuple(source.shape[-2:]), mode="bilinear", antialias=True)
    rows = []
    for images in zip(source, target, synthesised, strict=True):
        panels = [
            titled(image.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy(), title)
            for image, title in zip(images, COLUMNS, strict=True)
        ]
        rows.append(np.concatenate(panels, axis=1))
    return np.concatenate(rows)
