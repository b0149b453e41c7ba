"""SAR-MobileNetV2: four stages with regions, made of inverted residuals."""

from collections.abc import Mapping

from torch import Tensor, nn

from dynbackbones.backbones.base import FeatureInfo
from dynbackbones.backbones.mobilenet import (
    LAST_CHANNELS,
    STEM_CHANNELS,
    conv_norm_relu,
    rows_of_blocks,
)
from dynbackbones.backbones.resnet import OUTPUT_STRIDES, check_choice
from dynbackbones.backbones.sar.network import SARBackbone
from dynbackbones.backbones.sar.options import SAROptions, check_cells
from dynbackbones.backbones.sar.paper_stage import PaperStage, named_in_errors
from dynbackbones.backbones.sar.selection import RegionSelection
from dynbackbones.backbones.sar.stage import SARStage
from dynbackbones.backbones.signature import takes
from dynbackbones.layers.inverted import InvertedResidual, ProjectedInvertedResidual
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import Bottleneck, set_activation_checkpointing

FIRST_CHANNELS = 16
# Of each SAR stage: its name, channels, blocks n and the stride of its transition.
STAGES = (("res2", 24, 2, 2), ("res3", 32, 3, 2), ("res4a", 64, 4, 1), ("res4", 96, 3, 2))
LAST_ROWS = ((6, 160, 3, 1, None), (6, 320, 1, 1, "res5"))


class SARMobileNetV2(SARBackbone):
    """SAR-MobileNetV2 without classifier (SAR, table VII).

    After the last variant in the authors' code: both branches are of inverted residuals, those of
    the refinement branch with their 1x1 convolutions in ``groups``, and nothing is cut off at 0
    where the branches meet. Masks are of four stages, ``res2``, ``res3``, ``res4a`` and ``res4``,
    the first two at strides 4 and 8, the others at 16. Features are the fused maps of 24, 32 and 96
    channels and ``res5`` with 320, as `MobileNetV2` has them.

    Args:
        last_conv: see `MobileNetV2`.
        in_channels: channels of the images.
        base_scale: 2; there is no network to follow for 4.
        alpha: the base branch has 1 / alpha of a stage's channels.
        beta: the refinement branch has beta times a stage's channels, in all stages.
        cell_size: edge of a region in feature pixels, for the four stages.
        output_stride: of res5: 32; 16 and 8 dilate what follows, and regions have as many more
            feature pixels on a side.
        groups, base, grid_size, regions_per, target_rate, target_schedule, temperature,
            loss_weight, loss_reduction, loss_rate, track_target, guidance, guidance_classes,
            guidance_weight, selector_margin, norm, freeze_at, activation_checkpointing, execution,
            selection: see `SARResNet`.

    Raises:
        ValueError: an option has a wrong value, or ``groups`` does not divide the channels.

    Example:
        >>> import dynbackbones
        >>> net = dynbackbones.SARMobileNetV2(last_conv=True)
        >>> round(net.macs(224, 224, share=0.6) / 1e6)  # the paper, with the classifier: 210
        207
    """

    @takes(SAROptions, groups=2, alpha=1, cell_size=(4, 4, 7, 7))
    def __init__(
        self,
        *,
        options: SAROptions,
        last_conv: bool = False,
        in_channels: int = 3,
        output_stride: int = 32,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
        execution: str = "auto",
        selection: "str | Mapping[str, Tensor] | RegionSelection | None" = None,
    ) -> None:
        super().__init__(in_channels, options, execution, selection)
        self.title = "SAR-MobileNetV2"
        check_choice("output_stride", output_stride, OUTPUT_STRIDES)
        check_choice("base_scale", options.base_scale, (2,))
        check_choice("base", options.base, ("strided",))
        check_cells(options, len(STAGES))
        make_norm = norm_layer(norm)
        first = InvertedResidual(
            STEM_CHANNELS, FIRST_CHANNELS, expansion=1, stride=2, norm=make_norm
        )
        self.stem = conv_norm_relu(in_channels, STEM_CHANNELS, 3, 2, make_norm).append(first)
        self.maxpool = nn.Identity()
        stride, dilation = self._add_sar_stages(options, output_stride, make_norm)
        self._add_stages_behind(stride, dilation, output_stride, last_conv, make_norm)
        if activation_checkpointing:
            set_activation_checkpointing(self)
        self._init_weights(Bottleneck)  # which it has none of
        self.freeze(freeze_at)

    def _add_sar_stages(
        self, options: SAROptions, output_stride: int, norm: NormLayer
    ) -> tuple[int, int]:
        """Adds ``layer1`` to ``layer4``; returns stride and dilation of what they hand on."""
        self.feature_info, self._strides = {}, {}
        before, stride, dilation = FIRST_CHANNELS, 4, 1
        for index, (name, channels, count, last_stride) in enumerate(STAGES, start=1):
            dilates = stride * last_stride > output_stride
            cells = options.cell_size[index - 1] * dilation
            with named_in_errors(f"stage {index} ({name})"):
                stage = PaperStage(
                    InvertedResidual,
                    before,
                    channels,
                    count,
                    groups=options.groups,
                    base=options.base,
                    base_scale=options.base_scale,
                    alpha=options.alpha,
                    beta=options.beta,
                    cell_size=cells if options.grid_size is None else None,
                    grid_size=options.grid_size,
                    transition_stride=1 if dilates else last_stride,
                    pooled_transition=False,
                    dilation=dilation,
                    regions_per=options.regions_per,
                    selector_margin=options.selector_margin,
                    norm=norm,
                    refined_block=ProjectedInvertedResidual,
                )
            self.add_module(f"layer{index}", stage)
            self._strides[name] = stride
            if name != "res4a":
                self.feature_info[name] = FeatureInfo(channels, stride, f"layer{index}.fusion")
            before = channels
            stride *= stage.last_stride
            dilation *= last_stride if dilates else 1
        return stride, dilation

    def _add_stages_behind(
        self, stride: int, dilation: int, output_stride: int, last_conv: bool, norm: NormLayer
    ) -> None:
        """Adds ``layer5`` and perhaps ``layer6``."""
        rows = rows_of_blocks(
            LAST_ROWS,
            STAGES[-1][1],
            stride=stride,
            dilation=dilation,
            output_stride=output_stride,
            norm=norm,
        )
        self.layer5 = nn.Sequential(*(block for _, _, blocks in rows for block in blocks))
        channels = self.layer5[-1].out_channels
        self.feature_info["res5"] = FeatureInfo(channels, stride, "layer5")
        if last_conv:
            self.layer6 = conv_norm_relu(channels, LAST_CHANNELS, 1, 1, norm)
            self.feature_info["res6"] = FeatureInfo(LAST_CHANNELS, stride, "layer6")

    def stages(self) -> dict[str, SARStage]:
        return {
            name: self.get_submodule(f"layer{index}")
            for index, (name, *_) in enumerate(STAGES, start=1)
        }

    def parts(self) -> list[list[nn.Module]]:
        # One for each feature: the two stages at stride 16 freeze together.
        stages = [[self.layer1], [self.layer2], [self.layer3, self.layer4]]
        return [[self.stem], *stages, *self.behind().values()]

    def stage_stride(self, name: str) -> int:
        return self._strides[name]

    def behind(self) -> dict[str, list[nn.Module]]:
        last = {"res6": [self.layer6]} if "res6" in self.feature_info else {}
        return {"res5": [self.layer5], **last}
