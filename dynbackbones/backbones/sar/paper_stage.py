"""Stages as the paper lays them out: both branches on the input, a transition behind them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from dynbackbones.backbones.sar.fusion import BaseAlone, Fusion, RefinementAlone
from dynbackbones.backbones.sar.options import SAROptions, check_cells
from dynbackbones.backbones.sar.stage import SARStage, Size
from dynbackbones.layers.norm import NormLayer
from dynbackbones.layers.pooling import PaddedAvgPool2d
from dynbackbones.layers.regions import RegionSelector
from dynbackbones.layers.residual import BlockMaker, ResidualBlock


class PaperStage(SARStage):
    """Spatially adaptive feature refinement in place of a ResNet stage (SAR, III-A and fig. 2).

    Args:
        block: `BasicBlock`, `Bottleneck` or a `functools.partial` of one.
        in_channels: of the input.
        channels: C of the output.
        blocks: n; each branch has n - 1 blocks and the transition is the last.
        groups: G, channel groups of the refinement branch with regions of their own.
        base: how the base branch sees s times more of an image: ``"strided"``, at lower
            resolution, or ``"dilated"``, by 3x3 convolutions dilated by s.
        base_scale: s, 2 or 4.
        alpha, beta: the base branch has C / alpha channels, the refinement branch beta * C.
        cell_size: edge of a region in feature pixels; or
        grid_size: K for K x K regions.
        regions_per: see `SARStage`.
        transition_stride: of the last block, 1 or 2.
        pooled_transition: see ``pooled_shortcut`` of `ResidualBlock`.
        dilation: of all 3x3 convolutions.
        selector_margin: see `RegionSelector`.
        norm: constructor of the norm layers.
        refined_block: of the refinement branch, where that has others.
        branches: ``"both"``; ``"base"`` for the base branch alone; or ``"refinement"``, where the
            base branch serves the selectors alone.
    """

    def __init__(
        self,
        block: BlockMaker,
        in_channels: int,
        channels: int,
        blocks: int,
        *,
        groups: int,
        base: str,
        base_scale: int,
        alpha: int,
        beta: float,
        cell_size: int | None,
        grid_size: int | None,
        regions_per: str,
        transition_stride: int,
        pooled_transition: bool,
        dilation: int,
        selector_margin: float,
        norm: NormLayer,
        refined_block: BlockMaker | None = None,
        branches: str = "both",
    ) -> None:
        dilated = base == "dilated"
        scale = 1 if dilated else base_scale
        super().__init__(
            groups=groups,
            base_scale=scale,
            cell_size=cell_size,
            grid_size=grid_size,
            regions_per=regions_per,
        )
        base_channels, refinement_channels = channels // alpha, int(channels * beta)
        last = blocks - 2
        refined_blocks = 0 if branches == "base" else blocks - 1

        self.base_pool = PaddedAvgPool2d(3, 2, padding=1) if scale == 4 else nn.Identity()
        self.base = nn.ModuleList(
            block(
                in_channels if index == 0 else base_channels,
                base_channels,
                stride=2 if index == 0 and not dilated else 1,
                dilation=dilation * base_scale if dilated else dilation,
                pooled_shortcut=index == 0 and not dilated,
                final_relu=index < last or base_channels != channels,
                norm=norm,
            )
            for index in range(blocks - 1)
        )
        self.selectors = nn.ModuleList(
            RegionSelector(base_channels, groups, selector_margin, norm)
            for _ in range(self.selector_count(refined_blocks))
        )
        self.refinement = nn.ModuleList(
            (refined_block or block)(
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
            self.fusion = BaseAlone(base_channels, channels, scale, norm)
        elif branches == "refinement":
            self.fusion = RefinementAlone(refinement_channels, channels, norm)
        else:
            widths = base_channels, refinement_channels, channels
            self.fusion = Fusion(*widths, scale, norm, final_relu=not self.base[0].linear)
        self.last_stride = transition_stride
        self.transition = block(
            channels,
            channels,
            stride=transition_stride,
            dilation=dilation,
            pooled_shortcut=pooled_transition,
            norm=norm,
        )

    def refined_blocks(self) -> Sequence[ResidualBlock]:
        return self.refinement

    def whole_blocks(self) -> Sequence[ResidualBlock]:
        return [self.transition]

    def _leave(self, fused: Tensor) -> Tensor:
        return self.transition(fused)

    def static_macs(self, size: Size, input_size: Size) -> int:
        return super().static_macs(size, input_size) + self.transition.macs(*size)


def add_paper_stages(
    net: nn.Module,
    block: BlockMaker,
    in_channels: int,
    channels: Sequence[int],
    counts: Sequence[int],
    options: SAROptions,
    norm: NormLayer,
    *,
    first_beta: float,
    dilates: bool = False,
    branches: str = "both",
) -> None:
    """Adds ``layer1`` to ``layer3`` to a network.

    Args:
        net: that gets them.
        block: of all branches.
        in_channels: of the first stage.
        channels, counts: C and n of each stage.
        options: of the network.
        norm: constructor of the norm layers.
        first_beta: beta of the first stage.
        dilates: the third stage keeps the second's resolution.
        branches: see `PaperStage`.

    Raises:
        ValueError: the channels of a stage are not divisible as the options ask for.
    """
    check_cells(options, 3)
    for index in range(3):
        dilated = dilates and index == 2
        cells = options.cell_size[index] * (2 if dilated else 1)
        with named_in_errors(f"stage {index + 1} (res{index + 2})"):
            stage = PaperStage(
                block,
                in_channels,
                channels[index],
                counts[index],
                groups=options.groups,
                base=options.base,
                base_scale=options.base_scale if index < 2 else 2,
                alpha=options.alpha,
                beta=options.beta if index else first_beta,
                cell_size=cells if options.grid_size is None else None,
                grid_size=options.grid_size,
                transition_stride=2 if index == 0 or (index == 1 and not dilates) else 1,
                pooled_transition=index < 2,
                dilation=2 if dilated else 1,
                regions_per=options.regions_per,
                selector_margin=options.selector_margin,
                norm=norm,
                branches=branches,
            )
        net.add_module(f"layer{index + 1}", stage)
        in_channels = channels[index]


@contextmanager
def named_in_errors(place: str) -> Iterator[None]:
    """Values that are refused inside are said to be those of this place."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
