"""SAR-ResNet: full resolution only where an image needs it.

Han et al., Spatially Adaptive Feature Refinement for Efficient Inference, IEEE TIP 2021. Where the
text and the authors' code (sar_resnet_1attFuse) differ, the code is followed, except that an
unselected place gets nothing of the last norm layer's shift, so that sparse equals masked.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from dynbackbones.backbones.base import FeatureInfo
from dynbackbones.backbones.resnet import OUTPUT_STRIDES, check_choice
from dynbackbones.backbones.sar.network import SARBackbone
from dynbackbones.backbones.sar.options import SAROptions
from dynbackbones.backbones.sar.selection import RegionSelection
from dynbackbones.backbones.signature import takes
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import (
    BasicBlock,
    Bottleneck,
    ResidualBlock,
    set_activation_checkpointing,
)
from dynbackbones.layers.stem import IMAGENET_STEM_CHANNELS, add_imagenet_stem

LAYOUTS: dict[int, tuple[type[ResidualBlock], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (4, 8, 18, 3)),
}


class SARResNet(SARBackbone):
    """SAR-ResNet-18, -34, -50 or -101 without classifier (SAR, sections III and IV-A).

    Stages 1 to 3 run a cheap branch at low resolution everywhere, and a branch at full resolution
    on the regions that selectors choose for each image and channel group.

    Args:
        depth: 18, 34, 50 or 101.
        in_channels: channels of the images.
        groups: G, channel groups of the refinement branch, each with regions of its own; divides
            the channels.
        base_scale: s, how much smaller the base branch's feature maps are: 2, or 4 (stages 1 and
            2).
        alpha: the base branch has 1 / alpha of a stage's channels.
        beta: the refinement branch has beta times a stage's channels (stages 2 and 3; stage 1
            stays at 1, as in the authors' ImageNet network).
        cell_size: edge of a region in feature pixels, for the stages of res2, res3 and res4.
        grid_size: K for the paper's K x K regions per image, whatever its size; None for regions
            of ``cell_size``.
        target_rate: t, the share of the regions to refine that training aims at, in (0, 1].
        target_schedule: ``"ramp"`` goes from 1 down to t in three steps over the first half of
            training, for training from scratch; ``"constant"`` is for fine-tuning from trained
            selectors, which a ramp would drag back to rate 1.
        temperature: of the Gumbel-softmax at the start and the end of training, exponential in
            between; fine-tuning from trained selectors wants (0.1, 0.01).
        loss_weight: lambda, the weight of the activation-rate loss.
        loss_reduction: what meets the target: the rate of the whole ``"batch"``, over all processes
            (SAR, eq. 10), or that of every ``"sample"`` (eq. 11).
        selector_margin: how much a selector prefers "refine" at the start, as a difference of
            logits. 9, the authors', suits schedules of ImageNet's length; runs of a few thousand
            iterations never leave rate 1 with it and want 2.
        output_stride: of res5: 32; 16 dilates stage 4; 8 also stage 3, whose regions then have
            twice as many feature pixels on a side.
        norm: ``"BN"``, ``"SyncBN"``, ``"FrozenBN"`` (fixed statistics, so only with trained
            weights) or a constructor; see `norm_layer`.
        freeze_at: number of leading parts to freeze: 0 none, 1 the stem, 2 also stage 1 (res2), and
            so on.
        activation_checkpointing: compute the blocks' activations a second time in the backward
            pass instead of keeping them; the selectors run once.
        execution: in evaluation ``"sparse"`` skips what is not selected, ``"masked"`` computes all
            and multiplies, ``"auto"`` takes the faster one by a documented rule; all give the same
            features. Stages in training mode are always masked.
        selection: override of the decisions, as for `select`.

    Raises:
        ValueError: an option has a wrong value, or ``groups`` does not divide the channels.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.SARResNet(18, groups=2, target_rate=0.5).eval()
        >>> with net.select("center", rate=0.25):
        ...     features = net(torch.rand(2, 3, 64, 96))
        >>> list(features), tuple(features["res5"].shape)
        (['res2', 'res3', 'res4', 'res5'], (2, 512, 2, 3))
        >>> tuple(net.decisions.masks["res2"].shape)  # images, blocks, groups, rows, columns
        (2, 1, 2, 4, 6)
        >>> bool((net.decisions.macs < net.macs(64, 96, share=1)).all())
        True
    """

    @takes(SAROptions)
    def __init__(
        self,
        depth: int,
        *,
        options: SAROptions,
        in_channels: int = 3,
        output_stride: int = 32,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
        execution: str = "auto",
        selection: "str | Mapping[str, Tensor] | RegionSelection | None" = None,
    ) -> None:
        super().__init__(in_channels, options, execution, selection)
        self.title = f"SAR-ResNet-{depth}"
        check_choice("depth", depth, LAYOUTS)
        check_choice("output_stride", output_stride, OUTPUT_STRIDES)
        block, counts = LAYOUTS[depth]
        make_norm = norm_layer(norm)
        add_imagenet_stem(self, in_channels, make_norm)
        channels = [64 * 2**index * block.expansion for index in range(3)]
        self._add_stages(
            block,
            IMAGENET_STEM_CHANNELS,
            channels,
            counts,
            options,
            make_norm,
            first_beta=1,
            dilates=output_stride == 8,
        )
        self.layer4 = _last_stage(block, channels[-1], counts[3], output_stride, make_norm)
        self.feature_info = _feature_info(block.expansion, output_stride)
        if activation_checkpointing:
            set_activation_checkpointing(self)
        # As in the authors' code for ImageNet, not those of BasicBlocks.
        self._init_weights(Bottleneck)
        self.freeze(freeze_at)


def _feature_info(expansion: int, output_stride: int) -> dict[str, FeatureInfo]:
    modules = ("layer1.fusion", "layer2.fusion", "layer3.transition", "layer4")
    return {
        f"res{index + 2}": FeatureInfo(
            channels=64 * 2**index * expansion,
            stride=min(4 * 2**index, output_stride),
            module=module,
        )
        for index, module in enumerate(modules)
    }


def _last_stage(
    block: type[ResidualBlock], channels: int, count: int, output_stride: int, norm: NormLayer
) -> nn.Sequential:
    before = {32: 1, 16: 1, 8: 2}[output_stride]
    dilation = {32: 1, 16: 2, 8: 4}[output_stride]
    return nn.Sequential(
        *(
            block(
                channels if index == 0 else 2 * channels,
                2 * channels,
                stride=2 if index == 0 and output_stride == 32 else 1,
                dilation=dilation,
                first_dilation=before if index == 0 else dilation,
                pooled_shortcut=index == 0,
                norm=norm,
            )
            for index in range(count)
        )
    )
