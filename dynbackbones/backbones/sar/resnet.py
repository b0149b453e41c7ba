"""SAR-ResNet: full resolution only where an image needs it.

Han et al., Spatially Adaptive Feature Refinement for Efficient Inference, IEEE TIP 2021. Where the
text and the authors' code (sar_resnet_1attFuse) differ, the code is followed, except that an
unselected place gets nothing of the last norm layer's shift, so that sparse equals masked.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from dynbackbones.backbones.base import FeatureInfo
from dynbackbones.backbones.resnet import (
    OUTPUT_STRIDES,
    WIDTH_PER_GROUP,
    add_stages,
    block_maker,
    check_choice,
    init_weights,
    kind_title,
)
from dynbackbones.backbones.sar.network import SARBackbone
from dynbackbones.backbones.sar.options import SAROptions, check_cells, with_defaults
from dynbackbones.backbones.sar.paper_stage import add_paper_stages
from dynbackbones.backbones.sar.resnet_stage import ResNetStage
from dynbackbones.backbones.sar.selection import RegionSelection
from dynbackbones.backbones.signature import takes
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import (
    BasicBlock,
    BlockMaker,
    Bottleneck,
    ResidualBlock,
    set_activation_checkpointing,
)
from dynbackbones.layers.stem import IMAGENET_STEM_CHANNELS, add_imagenet_stem

LAYOUTS = ("paper", "resnet")
DEPTHS: dict[int, tuple[type[ResidualBlock], tuple[int, int, int, int]]] = {
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
        layout: ``"paper"``; or ``"resnet"``, SAR stages around those of an ordinary ResNet, which
            a trained one's weights fit: the first block of each of the first three stages runs
            everywhere, the others are the refinement branch, and what the base branch adds is
            weighted with a scale that starts at 0. At the start it is exactly that ResNet.
        groups: G, channel groups of the refinement branch, each with regions of its own; divides
            the channels. None is 2, and 1 with a ResNet's layout, which has no groups.
        base: ``"strided"``; or ``"dilated"``, an ablation (SAR-dil in SAR's table V): the base
            branch stays at full resolution and its 3x3 convolutions are dilated by s.
        base_scale: s, how much smaller the base branch's feature maps are: 2, or 4 (stages 1 and
            2).
        alpha: the base branch has 1 / alpha of a stage's channels.
        beta: the refinement branch has beta times a stage's channels (stages 2 and 3; stage 1
            stays at 1, as in the authors' ImageNet network).
        cell_size: edge of a region in feature pixels, for the stages of res2, res3 and res4.
        grid_size: K for the paper's K x K regions of the batch, padding included, whatever its
            size; None for regions of ``cell_size``.
        regions_per: whose regions a selector chooses: every ``"block"`` of a refinement branch has
            regions of its own, or those of a ``"stage"`` have the same, chosen by one selector that
            reads the last block of the base branch.
        target_rate: t, the share of the regions to refine that training aims at, in (0, 1].
        target_schedule: ``"ramp"`` goes from 1 down to t in three steps over the first half of
            training, for training from scratch, ``"jump"`` in one after a quarter of it (SAR, table
            XII); ``"constant"`` is for fine-tuning from trained selectors, which a ramp would drag
            back to rate 1.
        temperature: of the Gumbel-softmax at the start and the end of training, exponential in
            between; fine-tuning from trained selectors wants (0.1, 0.01).
        loss_weight: lambda, the weight of the activation-rate loss.
        loss_reduction: what meets the target: the rate of the whole ``"batch"``, over all processes
            (SAR, eq. 10), that of every ``"sample"`` (eq. 11), or the batch's rate of every channel
            ``"group"``, so that none refines everything and another nothing.
        loss_rate: the rate that the loss sees: of the masks as they were ``"sampled"`` (SAR, eq.
            7), or the ``"expected"`` one, without their noise.
        track_target: move the selectors' thresholds in training, so that the rate in evaluation
            meets the target too; otherwise it is what comes out (see `calibrate`).
        guidance: what training may tell the selectors of where details matter, by `set_guidance`,
            which the adapters call: ``"none"`` (the paper's training), ``"objects"`` (boxes),
            ``"borders"`` (between classes), ``"classes"`` (boxes, or pixels, of some), or
            ``"gain"``: one pass in four refines all, and shows where that lowered the loss most.
        guidance_classes: labels of these, as the targets number them.
        guidance_weight: of the loss that draws them there.
        selector_margin: how much a selector prefers "refine" at the start, as a difference of
            logits. 9, the authors', suits schedules of ImageNet's length; runs of a few thousand
            iterations never leave rate 1 with it and want 2, as does fine-tuning with a ResNet's
            layout.
        output_stride: of res5: 32; 16 dilates stage 4; 8 also stage 3, whose regions then have
            twice as many feature pixels on a side.
        norm: ``"BN"``, ``"SyncBN"``, ``"FrozenBN"`` (fixed statistics, so only with trained
            weights), ``"GN"`` or a constructor; see `norm_layer`.
        added_norm: of what a ResNet's layout adds to the ResNet, whose norm layers may be frozen.
        stride_in_1x1: of a ResNet's layout; see `ResNet`.
        cardinality, width_per_group: see `ResNet`; 32 and 4 make a SAR-ResNeXt. ``groups`` divides
            the cardinality, which the base branch has too, whatever ``alpha``.
        deep_stem: three 3x3 convolutions in place of the first 7x7 one, as ResNetV1c has them.
        freeze_at: number of leading parts to freeze: 0 none, 1 the stem, 2 also stage 1 (res2), and
            so on; what a ResNet's layout adds never is.
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
        layout: str = "paper",
        in_channels: int = 3,
        output_stride: int = 32,
        norm: str | NormLayer = "BN",
        added_norm: str | NormLayer = "BN",
        stride_in_1x1: bool = False,
        cardinality: int = 1,
        width_per_group: int = WIDTH_PER_GROUP,
        deep_stem: bool = False,
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
        execution: str = "auto",
        selection: "str | Mapping[str, Tensor] | RegionSelection | None" = None,
    ) -> None:
        super().__init__(in_channels, options, execution, selection)
        self.title = f"SAR-{kind_title(depth, cardinality, width_per_group)}"
        self.layout = layout
        check_choice("layout", layout, LAYOUTS)
        check_choice("depth", depth, DEPTHS)
        check_choice("output_stride", output_stride, OUTPUT_STRIDES)
        make_norm = norm_layer(norm)
        add_imagenet_stem(self, in_channels, make_norm, deep_stem)
        if layout == "resnet":
            self.holds_resnet = True
            self.feature_info = add_stages(
                self,
                depth,
                output_stride=output_stride,
                norm=make_norm,
                stride_in_1x1=stride_in_1x1,
                cardinality=cardinality,
                width_per_group=width_per_group,
            )
            self._lay_around_resnet(_of_resnet(options), norm_layer(added_norm))
        else:
            _check_paper(stride_in_1x1, added_norm)
            kind, counts = DEPTHS[depth]
            block = block_maker(kind, cardinality, width_per_group)
            self._lay_out(block, kind.expansion, counts, options, output_stride, make_norm)
        if activation_checkpointing:
            set_activation_checkpointing(self)
        self.freeze(freeze_at)

    def _lay_out(
        self,
        block: BlockMaker,
        expansion: int,
        counts: Sequence[int],
        options: SAROptions,
        output_stride: int,
        norm: NormLayer,
    ) -> None:
        """Adds the paper's stages."""
        channels = [64 * 2**index * expansion for index in range(3)]
        add_paper_stages(
            self,
            block,
            IMAGENET_STEM_CHANNELS,
            channels,
            counts,
            with_defaults(options, groups=2),
            norm,
            first_beta=1,
            dilates=output_stride == 8,
        )
        self.layer4 = _last_stage(block, channels[-1], counts[3], output_stride, norm)
        self.feature_info = _feature_info(expansion, output_stride)
        # As in the authors' code for ImageNet, not those of BasicBlocks.
        self._init_weights(Bottleneck)

    def _lay_around_resnet(self, options: SAROptions, norm: NormLayer) -> None:
        """Replaces the first three stages of a ResNet."""
        check_cells(options, 3)
        for index in range(3):
            name = f"layer{index + 1}"
            blocks = list(self.get_submodule(name))
            cells = options.cell_size[index] * blocks[1].dilation
            stage = ResNetStage(
                blocks,
                base_scale=options.base_scale if index < 2 else 2,
                alpha=options.alpha,
                cell_size=cells if options.grid_size is None else None,
                grid_size=options.grid_size,
                regions_per=options.regions_per,
                selector_margin=options.selector_margin,
                norm=norm,
            )
            self.add_module(name, stage)
            info = self.feature_info[f"res{index + 2}"]
            self.feature_info[f"res{index + 2}"] = info._replace(module=f"{name}.fusion")
        init_weights(self)
        for stage in self.stages().values():
            stage.select_all()

    def decision_keys(self) -> set[str]:
        if self.layout != "resnet":
            return set()
        return {
            f"layer{number}.{name}.{key}"
            for number, stage in enumerate(self.stages().values(), start=1)
            for name, module in stage.added().items()
            for key in module.state_dict()
        }


def _of_resnet(options: SAROptions) -> SAROptions:
    """The options of a ResNet's layout.

    Raises:
        ValueError: one of them has a value that only the paper's layout can have.
    """
    options = with_defaults(options, groups=1)
    if options.base != "strided":
        raise ValueError(f"base={options.base!r} is an option of layout='paper'; leave it away")
    for name in ("groups", "beta"):
        if getattr(options, name) != 1:
            raise ValueError(
                f"{name} must be 1 with layout='resnet', whose refinement branch is the ResNet's "
                f"own, got {getattr(options, name)!r}"
            )
    return options


def _check_paper(stride_in_1x1: bool, added_norm: str | NormLayer) -> None:
    for name, value, usual in (
        ("stride_in_1x1", stride_in_1x1, False),
        ("added_norm", added_norm, "BN"),
    ):
        if value != usual:
            raise ValueError(f"{name}={value!r} is an option of layout='resnet'; add that")


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
    block: BlockMaker, channels: int, count: int, output_stride: int, norm: NormLayer
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
