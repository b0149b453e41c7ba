"""One stage of a SAR network: base branch, region selectors, refinement branch, fusion."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dynbackbones.backbones.sar.fusion import BaseAlone, Fusion, RefinementAlone
from dynbackbones.layers.norm import NormLayer, has_affine_form
from dynbackbones.layers.regions import RegionGrid, RegionSelector, activation_rates
from dynbackbones.layers.residual import ResidualBlock, conv_out_size
from dynbackbones.layers.sparse import SelectedPixels, sparse_forward
from dynbackbones.layers.tracing import is_traced

SPARSE_RATE_LIMIT = 0.65
"""Share of refined pixels up to which ``execution="auto"`` computes a stage sparsely on a CPU."""

SPARSE_PIXELS = 10_000
"""Pixels of an image's feature map from which it does so at any rate."""


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
        branches: ``"both"``; ``"base"`` for the base branch alone; or ``"refinement"``, where the
            base branch serves the selectors alone.
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
        branches: str = "both",
    ) -> None:
        super().__init__()
        self.groups = groups
        self.base_scale = base_scale
        self.cell_size = cell_size
        self.grid_size = grid_size
        base_channels, refinement_channels = channels // alpha, int(channels * beta)
        last = blocks - 2
        refined_blocks = 0 if branches == "base" else blocks - 1

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
            RegionSelector(base_channels, groups, selector_margin, norm)
            for _ in range(refined_blocks)
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
            for index in range(refined_blocks)
        )
        if branches == "base":
            self.fusion = BaseAlone(base_channels, channels, base_scale, norm)
        elif branches == "refinement":
            self.fusion = RefinementAlone(refinement_channels, channels, norm)
        else:
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
            masks = override(len(self.refinement), self.groups, grid)
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
        if not self.selectors:
            none = grid.valid.new_zeros(len(base_outputs[0]), 0, self.groups, *grid.shape)
            return none, none
        masks, argmax = [], []
        for selector, base in zip(self.selectors, base_outputs, strict=True):
            logits = selector(base, grid, self.base_scale)
            argmax.append(selector.decide(logits.detach()) & grid.valid[:, None])
            if self.training:
                masks.append(selector.sample(logits, temperature) * grid.valid[:, None])
        argmax = torch.stack(argmax, dim=1)
        return (torch.stack(masks, dim=1) if masks else argmax), argmax

    def _refine(self, x: Tensor, masks: Tensor, grid: RegionGrid, execution: str) -> Tensor:
        if not self.refinement:
            return x
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
        if pixels.device.type != "cpu" or is_traced():
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
            base = conv_out_size(height, 2), conv_out_size(width, 2)
        total = 0
        for block in self.base:
            total += block.macs(*base)
            base = conv_out_size(height, self.base_scale), conv_out_size(width, self.base_scale)
        total += sum(selector.macs(*base, cells) for selector in self.selectors)
        total += sum(block.shortcut_macs(height, width) for block in self.refinement)
        return total + self.fusion.macs(height, width) + self.transition.macs(height, width)

    def macs_per_refined_pixel(self) -> Tensor:
        """(blocks,) float64 multiply-accumulates for one refined pixel of one group."""
        return torch.tensor(
            [block.macs_per_refined_pixel() for block in self.refinement], dtype=torch.float64
        )
