"""Where things in a frame were, or are, in another one: dense optical flow, and warping by it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dynbackbones.data.images import import_cv2

PRESETS = ("ultrafast", "fast", "medium")
# Rows and columns below which OpenCV complains, or in some shapes writes where it must not.
_SMALLEST = 32


def dense_flow(frame: np.ndarray, other: np.ndarray, preset: str = "fast") -> np.ndarray:
    """Where what each pixel shows is in another frame.

    OpenCV's DIS (Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016), which
    needs no training. A frame of fewer than 32 rows or columns is continued by its border.

    Args:
        frame, other: (H, W) uint8, grey.
        preset: ``"ultrafast"``, ``"fast"`` or ``"medium"``, of OpenCV.

    Returns:
        (H, W, 2) float32: pixels to the right and down from a place in ``frame`` to the same thing
        in ``other``.

    Raises:
        ValueError: the sizes differ, or the preset is unknown.
        UserError: OpenCV is not installed.

    Example:
        >>> import numpy as np
        >>> from dynbackbones.video.flow import dense_flow
        >>> yx = np.mgrid[:64, :64]
        >>> before = (127 * (1 + np.sin(yx / 5).prod(0))).astype(np.uint8)
        >>> flow = dense_flow(np.roll(before, 2, axis=1), before)
        >>> int(np.median(flow[20:44, 20:44, 0]).round())
        -2
    """
    if frame.shape != other.shape:
        raise ValueError(f"frames must be of one size, got {frame.shape} and {other.shape}")
    if preset not in PRESETS:
        raise ValueError(f"flow must be one of {', '.join(PRESETS)}, got {preset!r}")
    cv2 = import_cv2()
    height, width = frame.shape
    border = (0, max(0, _SMALLEST - height), 0, max(0, _SMALLEST - width))
    if any(border):
        frame, other = (
            cv2.copyMakeBorder(image, *border, cv2.BORDER_REPLICATE) for image in (frame, other)
        )
    engine = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))
    return engine.calc(frame, other, None)[:height, :width]


def warp(maps: Tensor, flow: np.ndarray | Tensor, mode: str = "bilinear") -> Tensor:
    """Takes each place's values from where the flow says that they were.

    Args:
        maps: (C, h, w) float, of the frame that flow leads to.
        flow: (H, W, 2) in pixels of a frame, from the new to the old one; the maps may be smaller
            or larger than the frame.
        mode: of `torch.nn.functional.grid_sample`.

    Returns:
        (C, h, w); what lies outside is continued by the border.
    """
    height, width = flow.shape[:2]
    # In half precision places of large maps would be pixels apart.
    exact = maps.to(torch.promote_types(maps.dtype, torch.float32))
    shares = torch.as_tensor(flow).to(exact).permute(2, 0, 1)[None]
    size = tuple(maps.shape[-2:])
    if size != (height, width):
        shares = F.interpolate(shares, size, mode="area" if size < (height, width) else "bilinear")
    rows = (torch.arange(size[0]).to(exact) * 2 + 1) / size[0] - 1
    columns = (torch.arange(size[1]).to(exact) * 2 + 1) / size[1] - 1
    grid = torch.stack(
        [
            columns[None, :] + shares[0, 0] * (2 / width),
            rows[:, None] + shares[0, 1] * (2 / height),
        ],
        dim=-1,
    )
    moved = F.grid_sample(exact[None], grid[None], mode, "border", align_corners=False)
    return moved[0].to(maps)
