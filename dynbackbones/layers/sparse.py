"""Patch-sparse execution of a residual branch: only the selected pixels are computed.

The selected pixels of all images and channel groups are gathered once into compact rows. 1x1
convolutions are matrix products on these rows; a 3x3 convolution first collects its nine
neighbours through an index table in which every pixel that is not selected points at one row of
zeros, as the mask in front of the convolution demands. The result is added to the shortcut.

Shapes: N images, G channel groups, H x W pixels, P selected (group, image, pixel) triples.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.layers.norm import affine_of
from dynbackbones.layers.residual import ResidualBlock


@dataclass(frozen=True)
class SelectedPixels:
    """Index tables of one block's mask.

    Attributes:
        rows: (P,) index of each selected pixel in a feature map viewed as
            (N * H * W * G, channels / G), ordered by group.
        counts: selected pixels of each group; they sum to P.
        neighbours: (P, 9) index into the P rows of each pixel's 3x3 neighbourhood, P for a
            neighbour that is not selected or outside the map.
    """

    rows: Tensor
    counts: list[int]
    neighbours: Tensor

    @classmethod
    def from_mask(cls, mask: Tensor, dilation: int = 1) -> "SelectedPixels":
        """Builds the tables of a bool mask (N, G, H, W) for 3x3 kernels of this dilation."""
        n, groups, height, width = mask.shape
        group, image, y, x = mask.transpose(0, 1).nonzero(as_tuple=True)
        selected = len(group)
        rows = ((image * height + y) * width + x) * groups + group

        padded_height, padded_width = height + 2 * dilation, width + 2 * dilation
        slots = torch.full(
            (groups * n * padded_height * padded_width,), selected, device=mask.device
        )
        centre = (group * n + image) * padded_height + y + dilation
        centre = centre * padded_width + x + dilation
        slots[centre] = torch.arange(selected, device=mask.device)
        steps = torch.arange(-1, 2, device=mask.device) * dilation
        offsets = (steps.unsqueeze(1) * padded_width + steps).flatten()
        neighbours = slots[centre.unsqueeze(1) + offsets]
        counts = mask.sum(dim=(0, 2, 3)).tolist()
        return cls(rows, counts, neighbours)


def sparse_forward(block: ResidualBlock, x: Tensor, pixels: SelectedPixels) -> Tensor:
    """What ``block(x, mask)`` gives, computing the residual branch at selected pixels only.

    Args:
        block: with stride 1; its norm layers must have fixed statistics.
        x: (N, in_channels, H, W).
        pixels: tables of the block's mask.

    Returns:
        (N, out_channels, H, W), channels-last in memory.

    Raises:
        ValueError: a norm layer of the block keeps no running statistics.
    """
    n, _, height, width = x.shape
    channels_last = x.permute(0, 2, 3, 1).contiguous()
    rows = channels_last.view(-1, block.in_channels // block.groups)[pixels.rows]
    for index, (conv, bn) in enumerate(block.residual_layers()):
        if index:
            rows = rows.relu_()
        rows = _grouped_product(rows, conv, bn, pixels)

    shortcut = block.shortcut(x).permute(0, 2, 3, 1)
    # A copy also where the shortcut is the input itself, which the caller may still need.
    out = (
        shortcut.contiguous()
        if block.downsample is not None
        else shortcut.clone(memory_format=torch.contiguous_format)
    )
    out.view(-1, block.out_channels // block.groups).index_add_(0, pixels.rows, rows.to(out.dtype))
    if block.final_relu:
        out = out.relu_()
    return out.view(n, height, width, block.out_channels).permute(0, 3, 1, 2)


def _grouped_product(
    rows: Tensor, conv: nn.Conv2d, bn: nn.Module, pixels: SelectedPixels
) -> Tensor:
    """Convolution and norm of compact rows: (P, C_in / G) to (P, C_out / G)."""
    scale, shift = affine_of(bn)
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    if conv.kernel_size == (3, 3):
        rows = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
        rows = rows[pixels.neighbours].flatten(1)
        weight = weight.permute(0, 2, 3, 1)  # the order of the gathered neighbours
    weights = weight.flatten(1).chunk(conv.groups)
    shifts = shift.chunk(conv.groups)
    parts = zip(rows.split(pixels.counts), weights, shifts, strict=True)
    return torch.cat([F.linear(part, w, b) for part, w, b in parts])
