"""What the stages of SAR networks have in common: both branches, run as their selectors decide."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from dynbackbones.backbones.sar.gain import measured_masks
from dynbackbones.backbones.sar.stage_output import Choice, StageOutput
from dynbackbones.kernels.blocks import add_residual_, can_run
from dynbackbones.kernels.cells import SelectedCells
from dynbackbones.layers.norm import has_affine_form
from dynbackbones.layers.regions import RegionGrid
from dynbackbones.layers.residual import ResidualBlock, conv_out_size
from dynbackbones.layers.sparse import SelectedPixels, sparse_forward
from dynbackbones.layers.tracing import is_traced

SPARSE_RATE_LIMIT = 0.65
"""Share of refined pixels up to which ``execution="auto"`` computes a stage sparsely on a CPU."""

SPARSE_PIXELS = 10_000
"""Pixels of an image's feature map from which it does so at any rate."""

Size = tuple[int, int]
T = TypeVar("T")


class SARStage(nn.Module):
    """A base branch everywhere and a refinement branch on selected regions (SAR, fig. 2).

    A derived class builds the parts.

    Args:
        groups: G, channel groups of the refinement branch with regions of their own.
        base_scale: s, pixels of the refinement branch per pixel of the base branch, on each axis.
        cell_size: edge of a region in feature pixels; or
        grid_size: K for K x K regions.
        regions_per: whose regions a selector chooses, each ``"block"``'s or those of the whole
            ``"stage"``.

    Attributes:
        base_pool: what shrinks the base branch's input besides its first block.
        base: its blocks.
        selectors: one for each block of the refinement branch, reading the base block beside it, or
            one for all of them, reading the last base block.
        fusion: of both branches' outputs.
        first_stride, last_stride: of what stands before and behind both branches.
        whole_name: what `whole_blocks` are called where their time is shown.
    """

    base_pool: nn.Module
    base: nn.ModuleList
    selectors: nn.ModuleList
    fusion: nn.Module
    first_stride = last_stride = 1
    regions_per = "block"  # of networks that were pickled before there was another
    whole_name = "transition"

    def __init__(
        self,
        *,
        groups: int,
        base_scale: int,
        cell_size: int | None,
        grid_size: int | None,
        regions_per: str,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.base_scale = base_scale
        self.cell_size = cell_size
        self.grid_size = grid_size
        self.regions_per = regions_per

    @abstractmethod
    def refined_blocks(self) -> Sequence[ResidualBlock]:
        """The blocks of the refinement branch."""

    @abstractmethod
    def whole_blocks(self) -> Sequence[ResidualBlock]:
        """The blocks before or behind both branches, which run everywhere."""

    def selector_count(self, refined_blocks: int) -> int:
        """How many selectors a refinement branch of so many blocks has."""
        return refined_blocks if self.regions_per == "block" else min(refined_blocks, 1)

    def for_blocks(self, chosen: Sequence[T]) -> list[T]:
        """For each block of the refinement branch what belongs to the selector that decides for it.

        Args:
            chosen: what belongs to each selector.
        """
        return [*chosen] * (len(self.refined_blocks()) // len(chosen))

    def frozen_parts(self) -> list[nn.Module]:
        """What `Backbone.freeze` freezes of it."""
        return [self]

    def _enter(self, x: Tensor) -> Tensor:
        """What both branches see of the stage's input."""
        return x

    def _leave(self, fused: Tensor) -> Tensor:
        """What the next stage sees of the fusion."""
        return fused

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
        measured_share: float | None = None,
    ) -> StageOutput:
        """Runs the stage.

        Args:
            x: (N, in_channels, H * first_stride, W * first_stride).
            valid_sizes: (N, 2), (h, w) of each image in pixels of the (H, W), without padding.
            override: from (selectors, groups, grid) to masks (N, selectors, G, R, S) that replace
                the selectors' decisions.
            temperature: of the Gumbel-softmax in training.
            execution: see `DynamicBackbone`.
            measured_share: everything is refined, and selectors learn in the backward pass which
                share of the cells it paid for most; in training, without an override.
        """
        x = self._enter(x)
        grid = self.grid(x.shape[-2:], valid_sizes, x.device)
        base, base_outputs = self.base_pool(x), []
        for block in self.base:
            base = block(base)
            base_outputs.append(base)
        # The selectors also run where an override replaces what they say: time and MACs measured
        # at a given rate then include them.
        choice = self._decide(base_outputs, grid, temperature)
        masks = choice.argmax if choice.sampled is None else choice.sampled
        unused = None
        if override is not None:
            unused = choice.sampled
            masks = override(len(self.selectors), self.groups, grid)
        gain_loss = None
        if measured_share is not None and choice.sampled is not None and override is None:
            masks, gain_loss = measured_masks(choice.logits, grid, measured_share)
        fused = self.fusion(base, self._refine(x, masks, grid, execution), grid)
        if unused is not None:
            # Selectors without any gradient, or a base branch, would stop DDP.
            fused = fused + 0 * unused.sum()
        out = self._leave(fused)
        chosen = masks.detach().bool()
        return StageOutput(fused, out, chosen, choice, override is not None, grid, gain_loss)

    def _decide(self, base_outputs: list[Tensor], grid: RegionGrid, temperature: float) -> Choice:
        if not self.selectors:
            shape = len(base_outputs[0]), 0, self.groups, *grid.shape
            return Choice(base_outputs[0].new_zeros(shape), grid.valid.new_zeros(shape), None)
        logits, argmax, sampled = [], [], []
        read = base_outputs[-len(self.selectors) :]
        for selector, base in zip(self.selectors, read, strict=True):
            both = selector(base, grid, self.base_scale)
            logits.append(both[..., 1] - both[..., 0])
            argmax.append(selector.decide(both.detach()) & grid.valid[:, None])
            if self.training:
                sampled.append(selector.sample(both, temperature) * grid.valid[:, None])
        return Choice(
            torch.stack(logits, dim=1),
            torch.stack(argmax, dim=1),
            torch.stack(sampled, dim=1) if sampled else None,
        )

    def _refine(self, x: Tensor, masks: Tensor, grid: RegionGrid, execution: str) -> Tensor:
        blocks = self.refined_blocks()
        if not blocks:
            return x
        masks = self._on_padding(masks, grid)
        if self._runs_kernels(x, execution):
            tables = self.for_blocks(SelectedCells.from_masks(masks, self.cell_size))
            x = x.contiguous(memory_format=torch.channels_last)
            for index, (block, cells) in enumerate(zip(blocks, tables, strict=True)):
                out = x if index else _shortcut(block, x, cells)
                add_residual_(out, block, x, cells)
                x = out
            return x
        pixels = grid.expand(masks)
        if not self._runs_sparse(pixels, execution):
            for block, mask in zip(blocks, self.for_blocks(pixels.unbind(dim=1)), strict=True):
                x = block(x, mask)
            return x
        tables = self.for_blocks(SelectedPixels.for_blocks(blocks, pixels))
        for index, (block, table) in enumerate(zip(blocks, tables, strict=True)):
            x = sparse_forward(block, x, table, in_place=index > 0)
        return x

    def _on_padding(self, masks: Tensor, grid: RegionGrid) -> Tensor:
        """Masks whose cells outside the images may be refined too, which counts nowhere."""
        return masks

    def _runs_kernels(self, x: Tensor, execution: str) -> bool:
        if self.training or execution == "masked" or self.cell_size is None:
            return False
        return can_run(self.refined_blocks(), x)

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
        norms = (norm for block in self.refined_blocks() for _, norm in block.residual_layers())
        return all(has_affine_form(norm) for norm in norms)

    def static_macs(self, size: Size, input_size: Size) -> int:
        """Multiply-accumulates that do not depend on the masks.

        Args:
            size: of the refinement branch in pixels.
            input_size: of the stage's input.
        """
        height, width = size
        cells = len(self.grid((height, width)).valid.flatten())
        base = (height, width)
        if self.base_scale == 4:
            base = conv_out_size(height, 2), conv_out_size(width, 2)
        total = 0
        for block in self.base:
            total += block.macs(*base)
            base = conv_out_size(height, self.base_scale), conv_out_size(width, self.base_scale)
        total += sum(selector.macs(*base, cells) for selector in self.selectors)
        total += sum(block.shortcut_macs(height, width) for block in self.refined_blocks())
        return total + self.fusion.macs(height, width)

    def macs_per_refined_pixel(self) -> Tensor:
        """(selectors,) float64 multiply-accumulates for one refined pixel of one group."""
        costs = [block.macs_per_refined_pixel() for block in self.refined_blocks()]
        if self.regions_per == "stage" and costs:
            costs = [sum(costs)]
        return torch.tensor(costs, dtype=torch.float64)


def _shortcut(block: ResidualBlock, x: Tensor, cells: SelectedCells) -> Tensor:
    """What a block's residual branch is added to, with the block's ReLU where nothing is added."""
    shortcut = block.shortcut(x).contiguous(memory_format=torch.channels_last)
    if not block.final_relu:
        return shortcut.clone() if shortcut is x else shortcut
    n, channels, height, width = shortcut.shape
    groups = shortcut.permute(0, 2, 3, 1).view(n, height, width, block.groups, -1)
    selected = cells.pixels(height, width).permute(0, 2, 3, 1).contiguous().unsqueeze(4)
    out = torch.where(selected, groups, groups.relu())
    return out.view(n, height, width, channels).permute(0, 3, 1, 2)
