"""A SAR stage laid around an ordinary ResNet's, which it is exactly where all is refined."""

from collections.abc import Sequence

from torch import Tensor, nn

from dynbackbones.backbones.sar.fusion import AddedBase
from dynbackbones.backbones.sar.stage import SARStage, Size
from dynbackbones.layers.norm import NormLayer
from dynbackbones.layers.pooling import PaddedAvgPool2d
from dynbackbones.layers.regions import RegionGrid, RegionSelector
from dynbackbones.layers.residual import ResidualBlock


class ResNetStage(SARStage):
    """A stage of a ResNet whose first block runs everywhere, and the others where it is selected.

    The blocks keep the names that they have in the ResNet, ``"0"``, ``"1"`` and so on. The base
    branch runs on the first block's output, at lower resolution; it adds nothing at first.

    Args:
        blocks: of the ResNet's stage, at least two.
        base_scale: s, 2 or 4.
        alpha: the base branch has C / alpha channels.
        cell_size: edge of a region in feature pixels; or
        grid_size: K for K x K regions.
        regions_per: see `SARStage`.
        selector_margin: see `RegionSelector`.
        norm: constructor of the norm layers of the base branch, the selectors and the fusion.
    """

    whole_name = "first blocks"

    def __init__(
        self,
        blocks: Sequence[ResidualBlock],
        *,
        base_scale: int,
        alpha: int,
        cell_size: int | None,
        grid_size: int | None,
        regions_per: str,
        selector_margin: float,
        norm: NormLayer,
    ) -> None:
        super().__init__(
            groups=1,
            base_scale=base_scale,
            cell_size=cell_size,
            grid_size=grid_size,
            regions_per=regions_per,
        )
        for index, block in enumerate(blocks):
            self.add_module(str(index), block)
        self.block_count = len(blocks)
        first, second = blocks[:2]
        self.first_stride = first.stride
        channels, base_channels = first.out_channels, first.out_channels // alpha
        self.base_pool = PaddedAvgPool2d(3, 2, padding=1) if base_scale == 4 else nn.Identity()
        self.base = nn.ModuleList(
            type(first)(
                base_channels if index else channels,
                base_channels,
                stride=1 if index else 2,
                dilation=second.dilation,
                cardinality=second.cardinality,
                expansion=second.expansion,
                pooled_shortcut=index == 0,
                norm=norm,
            )
            for index in range(len(blocks) - 1)
        )
        self.selectors = nn.ModuleList(
            RegionSelector(base_channels, 1, selector_margin, norm)
            for _ in range(self.selector_count(len(self.base)))
        )
        self.fusion = AddedBase(base_channels, channels, base_scale, norm)

    def whole_blocks(self) -> Sequence[ResidualBlock]:
        return [self.get_submodule("0")]

    def refined_blocks(self) -> Sequence[ResidualBlock]:
        return [self.get_submodule(str(index)) for index in range(1, self.block_count)]

    def blocks(self) -> list[ResidualBlock]:
        """The blocks of the ResNet's stage."""
        return [*self.whole_blocks(), *self.refined_blocks()]

    def frozen_parts(self) -> list[nn.Module]:
        return self.blocks()

    def added(self) -> dict[str, nn.Module]:
        """What the ResNet's stage lacks, by name."""
        return {"base": self.base, "selectors": self.selectors, "fusion": self.fusion}

    def select_all(self) -> None:
        """Starts the selectors so that they select everything, whatever they see."""
        for selector in self.selectors:
            nn.init.zeros_(selector.fc.weight)
            selector.reset_bias()

    def static_macs(self, size: Size, input_size: Size) -> int:
        return super().static_macs(size, input_size) + self.get_submodule("0").macs(*input_size)

    def _enter(self, x: Tensor) -> Tensor:
        return self.get_submodule("0")(x)

    def _on_padding(self, masks: Tensor, grid: RegionGrid) -> Tensor:
        # What a ResNet makes of padding reaches into the image.
        return grid.spread(masks)
