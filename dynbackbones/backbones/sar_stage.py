"""One stage of a SAR network: base branch, region selectors, refinement branch, fusion."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.layers.norm import NormLayer, has_affine_form
from dynbackbones.layers.regions import RegionGrid, RegionSelector, activation_rates
from dynbackbones.layers.residual import ResidualBlock, conv1x1, strided
from dynbackbones.layers.sparse import SelectedPixels, sparse_forward

SPARSE_RATE_LIMIT = 0.65
"""Share of refined pixels up to which ``execution="auto"`` computes a stage sparsely on a CPU."""

SPARSE_PIXELS = 10_000
"""Pixels of an image's feature map from which it does so at any rate."""

BLEND_CHUNK = 2**18
"""Values that are fused at a time: 1 MiB."""


class StageOutput(NamedTuple):
    """What a SAR stage returns.

    Attributes:
        fused: (N, C, H, W), the fusion of both branches.
        out: (N, C, H / stride, W / stride), the transition's output.
        masks: (N, blocks, G, R, S) bool, the regions refined.
        argmax_masks: what the selectors choose without sampling noise.
        rates: (blocks, N) activation rates with their gradient; None where nothing was sampled.
        grid: the region grid.
    """

    fused: Tensor
    out: Tensor
    masks: Tensor
    argmax_masks: Tensor
    rates: Tensor | None
    grid: RegionGrid


class Fusion(nn.Module):
    """Channel-wise weighted sum of both branches (SAR, eq. 5).

    Args:
        base_channels: of the base branch; projected to ``channels`` where they differ.
        refinement_channels: of the refinement branch, likewise.
        channels: C of the output.
        base_scale: pixels of the refinement branch per pixel of the base branch, on each axis.
        norm: constructor of the norm layers.
    """

    reduction = 16

    def __init__(
        self,
        base_channels: int,
        refinement_channels: int,
        channels: int,
        base_scale: int,
        norm: NormLayer,
    ) -> None:
        super().__init__()
        self.base_scale = base_scale
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
        weight = self.attention(grid.image_mean(base, self.base_scale))[:, :, None, None]
        # By a fixed factor, so that a pixel's partner does not depend on how a batch is padded.
        scale, (height, width) = self.base_scale, grid.size
        in_place = not torch.is_grad_enabled() and height % scale == width % scale == 0
        if in_place and refinement.is_contiguous(memory_format=torch.channels_last):
            return _blend_(weight * base, 1 - weight, refinement, scale)
        upsampled = F.interpolate(base, scale_factor=scale)[..., :height, :width]
        return F.relu(weight * upsampled + (1 - weight) * refinement, inplace=True)

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for a refinement branch of this size in pixels."""
        base = strided(height, self.base_scale) * strided(width, self.base_scale)
        return (
            sum(p.numel() for p in self.attention.parameters())
            + _conv_weights(self.base_projection) * base
            + _conv_weights(self.refinement_projection) * height * width
        )


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


class SARStage(nn.Module):
    """Spatially adaptive feature refinement in place of a ResNet stage (SAR, III-A and fig. 2).

    Args:
        block: `BasicBlock` or `Bottleneck`.
        in_channels: of the input.
        channels: C of the output.
        blocks: n; each branch has n - 1 blocks and the transition is the last.
        groups: G, channel groups of the refinement branch with regions of their own.
        base_scale: s, 2 or 4.
        alpha, beta: the base branch has C / alpha channels, the refinement branch beta * C.
        cell_size: edge of a region in feature pixels; or
        grid_size: K for K x K regions.
        transition_stride: of the last block, 1 or 2.
        pooled_transition: see ``pooled_shortcut`` of `ResidualBlock`.
        dilation: of all 3x3 convolutions.
        selector_margin: see `RegionSelector`.
        norm: constructor of the norm layers.
    """

    def __init__(
        self,
        block: type[ResidualBlock],
        in_channels: int,
        channels: int,
        blocks: int,
        *,
        groups: int,
        base_scale: int,
        alpha: int,
        beta: float,
        cell_size: int | None,
        grid_size: int | None,
        transition_stride: int,
        pooled_transition: bool,
        dilation: int,
        selector_margin: float,
        norm: NormLayer,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.base_scale = base_scale
        self.cell_size = cell_size
        self.grid_size = grid_size
        base_channels, refinement_channels = channels // alpha, int(channels * beta)
        last = blocks - 2

        self.base_pool = nn.AvgPool2d(3, 2, padding=1) if base_scale == 4 else nn.Identity()
        self.base = nn.ModuleList(
            block(
                in_channels if index == 0 else base_channels,
                base_channels,
                stride=2 if index == 0 else 1,
                dilation=dilation,
                pooled_shortcut=index == 0,
                final_relu=index < last or base_channels != channels,
                norm=norm,
            )
            for index in range(blocks - 1)
        )
        self.selectors = nn.ModuleList(
            RegionSelector(base_channels, groups, selector_margin, norm) for _ in self.base
        )
        self.refinement = nn.ModuleList(
            block(
                in_channels if index == 0 else refinement_channels,
                refinement_channels,
                dilation=dilation,
                groups=groups,
                final_relu=index < last or refinement_channels != channels,
                norm=norm,
            )
            for index in range(blocks - 1)
        )
        self.fusion = Fusion(base_channels, refinement_channels, channels, base_scale, norm)
        self.transition = block(
            channels,
            channels,
            stride=transition_stride,
            dilation=dilation,
            pooled_shortcut=pooled_transition,
            norm=norm,
        )

    def grid(self, size, valid_sizes: Tensor | None = None, device="cpu") -> RegionGrid:
        """The region grid for a feature map of ``size`` pixels; see `RegionGrid`."""
        return RegionGrid(
            size,
            cell_size=self.cell_size,
            grid_size=self.grid_size,
            valid_sizes=valid_sizes,
            device=device,
        )

    def forward(
        self,
        x: Tensor,
        *,
        valid_sizes: Tensor | None = None,
        override: Callable[[int, int, RegionGrid], Tensor] | None = None,
        temperature: float = 1.0,
        execution: str = "auto",
    ) -> StageOutput:
        """Runs the stage.

        Args:
            x: (N, in_channels, H, W).
            valid_sizes: (N, 2), (h, w) of each image in pixels of ``x``, without padding.
            override: from (blocks, groups, grid) to masks (N, blocks, G, R, S) that replace the
                selectors' decisions.
            temperature: of the Gumbel-softmax in training.
            execution: see `DynamicBackbone`.
        """
        grid = self.grid(x.shape[-2:], valid_sizes, x.device)
        base, base_outputs = self.base_pool(x), []
        for block in self.base:
            base = block(base)
            base_outputs.append(base)
        # The selectors also run where an override replaces what they say: time and MACs measured
        # at a given rate then include them.
        masks, argmax = self._decide(base_outputs, grid, temperature)
        rates = None
        if override is not None:
            if self.training:
                # Selectors without any gradient would stop DDP.
                base = base + 0 * masks.sum()
            masks = override(len(self.base), self.groups, grid)
        elif self.training:
            rates = activation_rates(masks, grid.valid).transpose(0, 1)
        refined = self._refine(x, masks, grid, execution)
        fused = self.fusion(base, refined, grid)
        return StageOutput(
            fused, self.transition(fused), masks.detach().bool(), argmax, rates, grid
        )

    def _decide(
        self, base_outputs: list[Tensor], grid: RegionGrid, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Masks with gradient (in training) and argmax masks, each (N, blocks, G, R, S)."""
        masks, argmax = [], []
        for selector, base in zip(self.selectors, base_outputs, strict=True):
            logits = selector(base, grid, self.base_scale)
            argmax.append(selector.decide(logits.detach()) & grid.valid[:, None])
            if self.training:
                masks.append(selector.sample(logits, temperature) * grid.valid[:, None])
        argmax = torch.stack(argmax, dim=1)
        return (torch.stack(masks, dim=1) if masks else argmax), argmax

    def _refine(self, x: Tensor, masks: Tensor, grid: RegionGrid, execution: str) -> Tensor:
        pixels = grid.expand(masks)
        if not self._runs_sparse(pixels, execution):
            for block, mask in zip(self.refinement, pixels.unbind(dim=1), strict=True):
                x = block(x, mask)
            return x
        tables = SelectedPixels.from_masks(pixels, self.refinement[0].dilation)
        for index, (block, table) in enumerate(zip(self.refinement, tables, strict=True)):
            x = sparse_forward(block, x, table, in_place=index > 0)
        return x

    def _runs_sparse(self, pixels: Tensor, execution: str) -> bool:
        if self.training or execution == "masked":
            return False
        if execution == "sparse":
            return True
        if pixels.device.type != "cpu":
            return False
        large = pixels.shape[-2] * pixels.shape[-1] >= SPARSE_PIXELS
        if not large and pixels.float().mean() > SPARSE_RATE_LIMIT:
            return False
        norms = (norm for block in self.refinement for _, norm in block.residual_layers())
        return all(has_affine_form(norm) for norm in norms)

    def static_macs(self, height: int, width: int) -> int:
        """Multiply-accumulates that do not depend on the masks, for an input of this size."""
        cells = len(self.grid((height, width)).valid.flatten())
        base = (height, width)
        if self.base_scale == 4:
            base = strided(height, 2), strided(width, 2)
        total = 0
        for block, selector in zip(self.base, self.selectors, strict=True):
            total += block.macs(*base)
            base = strided(height, self.base_scale), strided(width, self.base_scale)
            total += selector.macs(*base, cells)
        total += sum(block.shortcut_macs(height, width) for block in self.refinement)
        return total + self.fusion.macs(height, width) + self.transition.macs(height, width)

    def macs_per_refined_pixel(self) -> Tensor:
        """(blocks,) float64 multiply-accumulates for one refined pixel of one group."""
        return torch.tensor(
            [block.macs_per_refined_pixel() for block in self.refinement], dtype=torch.float64
        )
