"""What is seen of images: the whole reduced to a patch, and patches of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynbackbones.classifiers.views import resized

GLANCES = ("bilinear", "bicubic")


def glance(images: Tensor, edge: int, mode: str = "bilinear") -> Tensor:
    """Whole images as patches: (N, C, H, W) to (N, C, edge, edge).

    Args:
        images: of at least that size.
        edge: of a patch in pixels.
        mode: ``"bilinear"``, antialiased, or ``"bicubic"`` without and with aligned corners, as the
            authors' code trains.
    """
    if mode == "bilinear":
        return resized(images, (edge, edge), mode)
    small = F.interpolate(images.float(), (edge, edge), mode="bicubic", align_corners=True)
    return small.to(images.dtype)


def corners_of(places: Tensor, size: tuple[int, int], edge: int) -> Tensor:
    """Whole pixels of the upper left corners: (M, 2) places in [0, 1] to (M, 2) row and column."""
    room = places.new_tensor([size[0] - edge, size[1] - edge])
    # What is not a number would be any pixel; the confidence tells.
    return (places.nan_to_num(0.5).clamp(0, 1) * room).floor().long()


def crop(images: Tensor, rows: Tensor, corners: Tensor, edge: int) -> Tensor:
    """Cuts a patch out of some of the images.

    Args:
        images: (N, C, H, W).
        rows: (M,) the image of each patch.
        corners: (M, 2) row and column of its first pixel.
        edge: of a patch in pixels.

    Returns:
        (M, C, edge, edge).
    """
    along = torch.arange(edge, device=images.device)
    down, right = (corners[:, axis, None] + along for axis in (0, 1))
    cut = images.permute(0, 2, 3, 1)[rows[:, None, None], down[:, :, None], right[:, None, :]]
    return cut.permute(0, 3, 1, 2)


def interpolated_crop(images: Tensor, places: Tensor, edge: int) -> Tensor:
    """As `crop` of each image, between the pixels, so that places can be learned through it.

    Args:
        images: (N, C, H, W).
        places: (N, 2) in [0, 1], differentiable.
        edge: of a patch in pixels.
    """
    size = places.new_tensor(images.shape[-2:])
    share = edge / size
    # Coordinates run from -1 to 1 over the image, and x comes first.
    middle = (2 * places - 1) * (1 - share)
    theta = torch.zeros(len(places), 2, 3, dtype=places.dtype, device=places.device)
    theta[:, 0, 0], theta[:, 1, 1] = share[1], share[0]
    theta = torch.cat([theta[:, :, :2], middle.flip(1)[:, :, None]], dim=2)
    grid = F.affine_grid(theta, [len(places), images.shape[1], edge, edge], align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False, padding_mode="border").to(
        images.dtype
    )
