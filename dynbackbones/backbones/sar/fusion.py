"""What joins the branches of a SAR stage."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.kernels.blocks import can_run
from dynbackbones.kernels.operators import blend_
from dynbackbones.layers.norm import NormLayer
from dynbackbones.layers.regions import RegionGrid
from dynbackbones.layers.residual import conv1x1, conv_out_size
from dynbackbones.layers.tracing import is_traced

BLEND_CHUNK = 2**18
"""Values that are fused at a time: 1 MiB."""

BRANCHES = ("both", "base", "refinement")
"""Fusion of a SAR stage's two branches; one branch alone is an ablation (SAR, table I)."""


class Fusion(nn.Module):
    """Channel-wise weighted sum of both branches (SAR, eq. 5).

    Args:
        base_channels: of the base branch; projected to ``channels`` where they differ.
        refinement_channels: of the refinement branch, likewise.
        channels: C of the output.
        base_scale: pixels of the refinement branch per pixel of the base branch, on each axis.
        norm: constructor of the norm layers.
        final_relu: apply a ReLU to the sum.
    """

    reduction = 16

    def __init__(
        self,
        base_channels: int,
        refinement_channels: int,
        channels: int,
        base_scale: int,
        norm: NormLayer,
        final_relu: bool = True,
    ) -> None:
        super().__init__()
        self.base_scale = base_scale
        self.final_relu = final_relu
        self.base_projection = _projection(base_channels, channels, norm)
        self.refinement_projection = _projection(refinement_channels, channels, norm)
        self.attention = nn.Sequential(
            nn.Linear(channels, channels // self.reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // self.reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, base: Tensor, refinement: Tensor, grid: RegionGrid) -> Tensor:
        """Fuses (N, _, H / base_scale, W / base_scale) with (N, _, H, W) to (N, C, H, W)."""
        base = self.base_projection(base)
        refinement = self.refinement_projection(refinement)
        weight = self.attention(grid.image_mean(base, self.base_scale))
        if self.final_relu and _blends_at_once(refinement):
            return _blend_at_once_(refinement, base, weight, 1 - weight, self.base_scale)
        weight = weight[:, :, None, None]
        if self.final_relu and _blends(refinement, self.base_scale, grid):
            return _blend_(weight * base, 1 - weight, refinement, self.base_scale)
        fused = weight * _upsample(base, self.base_scale, grid) + (1 - weight) * refinement
        return F.relu(fused, inplace=True) if self.final_relu else fused

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for a refinement branch of this size in pixels."""
        base = conv_out_size(height, self.base_scale) * conv_out_size(width, self.base_scale)
        return (
            sum(p.numel() for p in self.attention.parameters())
            + _conv_weights(self.base_projection) * base
            + _conv_weights(self.refinement_projection) * height * width
        )


class AddedBase(nn.Module):
    """Adds a base branch to a ResNet's stage, each channel with a weight that starts at 0.

    ``relu(refinement + scale * upsampled base)``: at the start exactly the refinement branch,
    which ends in a ReLU. The weight is no norm layer's, since frozen ones do not learn.

    Args:
        base_channels, channels, base_scale, norm: see `Fusion`.
    """

    def __init__(self, base_channels: int, channels: int, base_scale: int, norm: NormLayer) -> None:
        super().__init__()
        self.base_scale = base_scale
        self.base_projection = nn.Sequential(conv1x1(base_channels, channels), norm(channels))
        self.scale = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, base: Tensor, refinement: Tensor, grid: RegionGrid) -> Tensor:
        """See `Fusion.forward`."""
        base = self.base_projection(base)
        if _blends_at_once(refinement):
            weight = self.scale.flatten(1).T.expand(len(base), -1).contiguous()
            return _blend_at_once_(refinement, base, weight, weight * 0 + 1, self.base_scale)
        base = self.scale * base
        if _blends(refinement, self.base_scale, grid):
            whole = refinement.new_ones(1, 1, 1, 1).expand(*refinement.shape[:2], 1, 1)
            return _blend_(base, whole, refinement, self.base_scale)
        return F.relu(refinement + _upsample(base, self.base_scale, grid), inplace=True)

    def macs(self, height: int, width: int) -> int:
        """See `Fusion.macs`."""
        base = conv_out_size(height, self.base_scale) * conv_out_size(width, self.base_scale)
        return _conv_weights(self.base_projection) * base


class BaseAlone(nn.Module):
    """The base branch in place of a `Fusion`.

    Args:
        base_channels, channels, base_scale, norm: see `Fusion`.
    """

    def __init__(self, base_channels: int, channels: int, base_scale: int, norm: NormLayer) -> None:
        super().__init__()
        self.base_scale = base_scale
        self.base_projection = _projection(base_channels, channels, norm)

    def forward(self, base: Tensor, refinement: Tensor, grid: RegionGrid) -> Tensor:
        """See `Fusion.forward`."""
        return F.relu(_upsample(self.base_projection(base), self.base_scale, grid), inplace=True)

    def macs(self, height: int, width: int) -> int:
        """See `Fusion.macs`."""
        base = conv_out_size(height, self.base_scale) * conv_out_size(width, self.base_scale)
        return _conv_weights(self.base_projection) * base


class RefinementAlone(nn.Module):
    """The refinement branch in place of a `Fusion`.

    Args:
        refinement_channels, channels, norm: see `Fusion`.
    """

    def __init__(self, refinement_channels: int, channels: int, norm: NormLayer) -> None:
        super().__init__()
        self.refinement_projection = _projection(refinement_channels, channels, norm)

    def forward(self, base: Tensor, refinement: Tensor, grid: RegionGrid) -> Tensor:
        """See `Fusion.forward`."""
        return F.relu(self.refinement_projection(refinement))

    def macs(self, height: int, width: int) -> int:
        """See `Fusion.macs`."""
        return _conv_weights(self.refinement_projection) * height * width


def _upsample(base: Tensor, scale: int, grid: RegionGrid) -> Tensor:
    """(N, C, H / scale, W / scale) to (N, C, H, W), to the nearest pixel."""
    height, width = grid.size
    # By a fixed factor, so that a pixel's partner does not depend on how a batch is padded.
    return F.interpolate(base, scale_factor=scale)[..., :height, :width]


def _blends_at_once(refinement: Tensor) -> bool:
    """Whether one kernel can fuse the branches; compilers make one themselves."""
    channels_last = refinement.is_contiguous(memory_format=torch.channels_last)
    return channels_last and not is_traced() and can_run((), refinement)


def _blend_at_once_(
    refinement: Tensor, base: Tensor, base_weight: Tensor, weight: Tensor, scale: int
) -> Tensor:
    base = base.contiguous(memory_format=torch.channels_last)
    blend_(refinement, base, base_weight, weight, scale)
    return refinement


def _blends(refinement: Tensor, scale: int, grid: RegionGrid) -> bool:
    """Whether `_blend_` can take its place."""
    if refinement.device.type != "cpu" or is_traced() or torch.is_grad_enabled():
        return False
    whole = all(length % scale == 0 for length in grid.size)
    return whole and refinement.is_contiguous(memory_format=torch.channels_last)


def _blend_(base: Tensor, weight: Tensor, refinement: Tensor, scale: int) -> Tensor:
    """``relu(upsampled base + weight * refinement)``, in the memory of the refinement.

    Line by line, so that a line is still in a core's cache for the ReLU.

    Args:
        base: (N, C, H / scale, W / scale).
        weight: (N, C, 1, 1).
        refinement: (N, C, H, W), channels-last.
        scale: pixels of the refinement per pixel of the base, on each axis.
    """
    n, channels, height, width = refinement.shape
    lines = refinement.permute(0, 2, 3, 1).view(n, height // scale, scale, -1, scale, channels)
    base = base.permute(0, 2, 3, 1).unsqueeze(2).unsqueeze(4)
    weight = weight.view(n, 1, 1, 1, channels)
    step = max(BLEND_CHUNK // (n * scale * width * channels), 1)
    for start in range(0, lines.shape[1], step):
        part = lines[:, start : start + step]
        torch.addcmul(base[:, start : start + step], part, weight.unsqueeze(1), out=part).relu_()
    return refinement


def _projection(in_channels: int, channels: int, norm: NormLayer) -> nn.Module:
    if in_channels == channels:
        return nn.Identity()
    return nn.Sequential(conv1x1(in_channels, channels), norm(channels))


def _conv_weights(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Conv2d))
