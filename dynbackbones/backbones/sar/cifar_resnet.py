"""The SAR-ResNets for CIFAR: three SAR stages on images of 32 x 32 pixels."""

from collections.abc import Mapping

from torch import Tensor

from dynbackbones.backbones.base import FeatureInfo
from dynbackbones.backbones.cifar_resnet import (
    BOTTLENECKS,
    PAPER_DEPTHS,
    WIDE_DEPTHS,
    cifar_layout,
    cifar_title,
)
from dynbackbones.backbones.resnet import WIDTH_PER_GROUP, block_maker, check_choice
from dynbackbones.backbones.sar.fusion import BRANCHES
from dynbackbones.backbones.sar.network import SARBackbone
from dynbackbones.backbones.sar.options import SAROptions
from dynbackbones.backbones.sar.paper_stage import add_paper_stages
from dynbackbones.backbones.sar.selection import RegionSelection
from dynbackbones.backbones.signature import takes
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import BasicBlock, Bottleneck, set_activation_checkpointing
from dynbackbones.layers.stem import add_cifar_stem


class SARCifarResNet(SARBackbone):
    """SAR-ResNet for CIFAR (SAR, IV-B and IV-C) without classifier.

    The stages have 16, 32 and 64 channels times ``width``, at strides 1, 2 and 4, and 3, 5, 9 or 18
    blocks each; the regions form grids of 4 x 4, 4 x 4 and 2 x 2 on images of 32 x 32, as in the
    authors' code. The paper does not print the width; with 2 the MACs of SAR-ResNet-32 come out as
    in its tables II, III and XI (see the tests). The fusion is eq. 5's; the authors' code for CIFAR
    adds the branches up.

    Depths 16, 22, 28 and 40 are those of wide ResNets: 28 with ``width=10`` is SAR-WRN-28-10.
    Depth 29 with ``width=1, cardinality=8, width_per_group=32`` is SAR-ResNeXt-29, with 256, 512
    and 1024 channels (both table IV).

    Args:
        depth: 20, 32, 56 or 110; 16, 22, 28 or 40; 29.
        in_channels: channels of the images.
        width: factor of all channels but the stem's.
        cardinality, width_per_group: of depth 29; see `ResNet`. ``groups`` divides the cardinality.
        beta: the refinement branch has beta times a stage's channels, in all stages.
        branches: ``"both"``, or for ablations (SAR, table I) ``"base"`` or ``"refinement"``; see
            `PaperStage`.
        groups, base, base_scale, alpha, cell_size, grid_size, regions_per, target_rate,
            target_schedule, temperature, loss_weight, loss_reduction, loss_rate, track_target,
            guidance, guidance_classes, guidance_weight, selector_margin, norm, freeze_at,
            activation_checkpointing, execution, selection: see `SARResNet`.

    Raises:
        ValueError: an option has a wrong value, or ``groups`` does not divide the channels.

    Example:
        >>> import dynbackbones
        >>> net = dynbackbones.SARCifarResNet(32, groups=2)
        >>> round(net.macs(32, 32, share=0.7) / 1e6)  # the paper: 121
        120
    """

    @takes(SAROptions, groups=2, cell_size=(8, 4, 4))
    def __init__(
        self,
        depth: int,
        *,
        options: SAROptions,
        in_channels: int = 3,
        width: float = 2,
        cardinality: int = 1,
        width_per_group: int = WIDTH_PER_GROUP,
        branches: str = "both",
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
        execution: str = "auto",
        selection: "str | Mapping[str, Tensor] | RegionSelection | None" = None,
    ) -> None:
        super().__init__(in_channels, options, execution, selection)
        check_choice("depth", depth, (*PAPER_DEPTHS, *WIDE_DEPTHS, BOTTLENECKS))
        check_choice("branches", branches, BRANCHES)
        self.title = f"SAR-{cifar_title(depth, width, cardinality, width_per_group)}"
        layout, make_norm = cifar_layout(depth), norm_layer(norm)
        kind = Bottleneck if depth == BOTTLENECKS else BasicBlock
        channels = layout.channels(width)
        add_cifar_stem(self, in_channels, make_norm, layout.stem_channels)
        add_paper_stages(
            self,
            block_maker(kind, cardinality, width_per_group),
            layout.stem_channels,
            channels,
            [layout.count] * 3,
            options,
            make_norm,
            first_beta=options.beta,
            branches=branches,
        )
        modules = ("layer1.fusion", "layer2.fusion", "layer3.transition")
        self.feature_info = {
            f"res{index + 2}": FeatureInfo(channels[index], 2**index, module)
            for index, module in enumerate(modules)
        }
        if activation_checkpointing:
            set_activation_checkpointing(self)
        # As in the authors' code for CIFAR.
        self._init_weights(kind)
        if depth == BOTTLENECKS:
            for block in (b for stage in self.stages().values() for b in stage.refined_blocks()):
                block.zero_init_residual()
        self.freeze(freeze_at)
