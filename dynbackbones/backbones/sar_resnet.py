"""SAR-ResNet: full resolution only where an image needs it.

Han et al., Spatially Adaptive Feature Refinement for Efficient Inference, IEEE TIP 2021. Where the
text and the authors' code (sar_resnet_1attFuse) differ, the code is followed, except that an
unselected place gets nothing of the last norm layer's shift, so that sparse equals masked.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import DynamicBackbone, FeatureInfo, remember
from dynbackbones.backbones.decisions import SARDecisions, StageRegions
from dynbackbones.backbones.region_selection import RegionSelection
from dynbackbones.backbones.resnet import (
    OUTPUT_STRIDES,
    check_choice,
    feature_size,
    init_weights,
)
from dynbackbones.backbones.sar_stage import SARStage, StageOutput
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import (
    BasicBlock,
    Bottleneck,
    ResidualBlock,
    set_activation_checkpointing,
)
from dynbackbones.layers.stem import (
    IMAGENET_STEM_CHANNELS,
    add_imagenet_stem,
    run_stem,
    stem_macs,
)
from dynbackbones.losses import activation_rate_loss
from dynbackbones.schedules import scheduled_target, scheduled_temperature

LAYOUTS: dict[int, tuple[type[ResidualBlock], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (4, 8, 18, 3)),
}
TARGET_SCHEDULES = ("ramp", "constant")
LOSS_REDUCTIONS = ("batch", "sample")


class SARResNet(DynamicBackbone):
    """SAR-ResNet-18, -34, -50 or -101 without classifier.

    Args:
        depth: 18, 34, 50 or 101.
        in_channels: channels of the images.
        groups: G, channel groups with regions of their own; divides the channels.
        base_scale: s, the base branch's reduction of resolution: 2, or 4 (stages 1 and 2).
        alpha: the base branch has 1 / alpha of a stage's channels.
        beta: the refinement branch has beta times a stage's channels (stages 2 and 3; stage 1
            stays at 1, as in the authors' ImageNet network).
        cell_size: edge of a region in feature pixels, for the three SAR stages.
        grid_size: K for the paper's K x K regions instead of cells of fixed size.
        target_rate: t, the activation rate to train towards.
        target_schedule: ``"ramp"`` from 1 down to t (from scratch) or ``"constant"`` (fine-tuning).
        temperature: of the Gumbel-softmax at the start and the end of training.
        loss_weight: lambda, of the activation-rate loss.
        loss_reduction: ``"batch"`` (SAR, eq. 10) or ``"sample"`` (eq. 11).
        selector_margin: see `RegionSelector`; 9 for ImageNet-length training, 2 for a few
            thousand iterations.
        output_stride: 32; 16 dilates stage 4; 8 also stage 3, whose regions then have twice as
            many feature pixels on a side.
        norm: ``"BN"``, ``"SyncBN"``, ``"FrozenBN"`` or a constructor; see `norm_layer`.
        freeze_at: see `Backbone.freeze`.
        activation_checkpointing: compute the blocks' activations a second time in the backward
            pass instead of keeping them; the selectors run once.
        execution: see `DynamicBackbone`; stages in training mode are always masked.
        selection: override of the decisions, as for `select`.

    Raises:
        ValueError: an option has a wrong value, or ``groups`` does not divide the channels.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        groups: int = 2,
        base_scale: int = 2,
        alpha: int = 2,
        beta: float = 1,
        cell_size: Sequence[int] = (4, 4, 7),
        grid_size: int | None = None,
        target_rate: float = 0.5,
        target_schedule: str = "ramp",
        temperature: tuple[float, float] = (1.0, 0.01),
        loss_weight: float = 1.0,
        loss_reduction: str = "batch",
        selector_margin: float = 9.0,
        output_stride: int = 32,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
        execution: str = "auto",
        selection: "str | Mapping[str, Tensor] | RegionSelection | None" = None,
    ) -> None:
        super().__init__(in_channels, execution)
        check_choice("depth", depth, LAYOUTS)
        check_choice("base_scale", base_scale, (2, 4))
        check_choice("output_stride", output_stride, OUTPUT_STRIDES)
        check_choice("target_schedule", target_schedule, TARGET_SCHEDULES)
        check_choice("loss_reduction", loss_reduction, LOSS_REDUCTIONS)
        _check_numbers(groups, alpha, beta, target_rate, temperature, loss_weight)
        _check_regions(cell_size, grid_size)
        self.target_rate = target_rate
        self.target_schedule = target_schedule
        self.temperature = (float(temperature[0]), float(temperature[1]))
        self.loss_weight = loss_weight
        self.loss_reduction = loss_reduction
        self._selection = _as_selection(selection)
        self._static_macs: dict[tuple[int, int], float] = {}

        block, counts = LAYOUTS[depth]
        make_norm = norm_layer(norm)
        add_imagenet_stem(self, in_channels, make_norm)
        dilated3 = output_stride == 8
        channels = IMAGENET_STEM_CHANNELS
        for index in range(3):
            stage_channels = 64 * 2**index * block.expansion
            dilated = dilated3 and index == 2
            stage = SARStage(
                block,
                channels,
                stage_channels,
                counts[index],
                groups=groups,
                base_scale=base_scale if index < 2 else 2,
                alpha=alpha,
                beta=beta if index > 0 else 1,
                cell_size=None
                if grid_size is not None
                else cell_size[index] * (2 if dilated else 1),
                grid_size=grid_size,
                transition_stride=2 if index == 0 or (index == 1 and not dilated3) else 1,
                pooled_transition=index < 2,
                dilation=2 if dilated else 1,
                selector_margin=selector_margin,
                norm=make_norm,
            )
            self.add_module(f"layer{index + 1}", stage)
            channels = stage_channels
        self.layer4 = _last_stage(block, channels, counts[3], output_stride, make_norm)
        self.feature_info = _feature_info(block.expansion, output_stride)
        if activation_checkpointing:
            set_activation_checkpointing(self)
        self._init_weights()
        self.freeze(freeze_at)

    def _init_weights(self) -> None:
        init_weights(self)
        for stage in self.stages().values():
            for block in (*stage.base, stage.transition):
                _start_as_shortcut(block)
            for layer in stage.fusion.attention:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.01)
        for block in self.layer4:
            _start_as_shortcut(block)

    def stages(self) -> dict[str, SARStage]:
        """The SAR stages by the name of the feature in which they end."""
        return {"res2": self.layer1, "res3": self.layer2, "res4": self.layer3}

    def selector_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of all region selectors, for a learning rate of their own."""
        for stage in self.stages().values():
            yield from stage.selectors.parameters()

    @property
    def scheduled_target_rate(self) -> float:
        """The target rate at the present share of training."""
        return scheduled_target(self.target_rate, self.progress, self.target_schedule)

    @property
    def scheduled_temperature(self) -> float:
        """The Gumbel-softmax temperature at the present share of training."""
        return scheduled_temperature(self.temperature, self.progress)

    @property
    def selection(self) -> RegionSelection | None:
        """The override of the decisions that holds at present."""
        return self._selection

    @contextmanager
    def select(
        self, kind: str | Mapping[str, Tensor], *, rate: float = 0.5, seed: int = 0
    ) -> Iterator[None]:
        """Overrides the decisions of forward passes inside; see `RegionSelection`."""
        before, self._selection = self._selection, RegionSelection(kind, rate, seed)
        try:
            yield
        finally:
            self._selection = before

    def forward(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Tensor]:
        sizes = self._check_inputs(images, image_sizes)
        x = run_stem(self, images)
        features, outputs = {}, {}
        for name, stage in self.stages().items():
            outputs[name] = output = self._run_stage(name, stage, x, sizes)
            features[name] = output.fused
            x = output.out
        features["res4"] = x
        features["res5"] = self.layer4(x)

        size = (int(images.shape[-2]), int(images.shape[-1]))
        self.decisions = self._describe(outputs, sizes or [size] * len(images), size)
        if self.records_auxiliary:
            self._keep_auxiliary(self._losses(outputs.values()))
        return features

    def _stage_stride(self, name: str) -> int:
        """Input pixels per pixel of a SAR stage's refinement branch."""
        return self.feature_info[name].stride

    def _run_stage(
        self, name: str, stage: SARStage, x: Tensor, sizes: list[tuple[int, int]] | None
    ) -> StageOutput:
        valid = None
        if sizes is not None:
            stride = self._stage_stride(name)
            valid = torch.tensor([feature_size(size, stride) for size in sizes], device=x.device)
        override = self._selection and partial(self._selection.masks, name, len(x))
        return stage(
            x,
            valid_sizes=valid,
            override=override,
            temperature=self.scheduled_temperature,
            execution=self.execution,
        )

    def _losses(self, outputs) -> dict[str, Tensor]:
        rates = [output.rates for output in outputs if output.rates is not None]
        if not rates:
            return {}
        loss = activation_rate_loss(
            torch.cat(rates), self.scheduled_target_rate, self.loss_reduction
        )
        return {"loss_activation_rate": self.loss_weight * loss}

    def _describe(
        self,
        outputs: dict[str, StageOutput],
        sizes: list[tuple[int, int]],
        batch_size: tuple[int, int],
    ) -> SARDecisions:
        regions = {}
        for name, output in outputs.items():
            stride, grid = self._stage_stride(name), output.grid
            regions[name] = StageRegions(
                masks=output.masks,
                argmax_masks=output.argmax_masks,
                row_edges=(grid.row_edges * stride).clamp(max=batch_size[0]),
                col_edges=(grid.col_edges * stride).clamp(max=batch_size[1]),
                valid=grid.valid,
            )
        macs = self._macs_of(outputs, sizes)
        sampled = any(output.rates is not None for output in outputs.values())
        return SARDecisions(sizes, macs, regions, sampled)

    def _macs_of(self, outputs: dict[str, StageOutput], sizes: list[tuple[int, int]]) -> Tensor:
        static = [remember(self._static_macs, size, self._count_static) for size in sizes]
        macs = torch.tensor(static, dtype=torch.float64)
        pixels = [
            (output.masks * output.grid.areas[:, None, None]).sum(dim=(2, 3, 4))
            for output in outputs.values()
        ]
        costs = [self.stages()[name].macs_per_refined_pixel() for name in outputs]
        # One transfer from the device for all stages.
        return macs + torch.cat(pixels, dim=1).cpu().double() @ torch.cat(costs)

    def _count_static(self, size: tuple[int, int]) -> float:
        return self.macs(*size, activation_rate=0)

    def macs(self, height: int, width: int, activation_rate: float = 1.0) -> float:
        """Multiply-accumulates for an image of this size in pixels, at an activation rate.

        Convolutions and linear layers count, as in SAR's tables.
        """
        total = float(stem_macs(self, height, width))
        for name, stage in self.stages().items():
            size = feature_size((height, width), self._stage_stride(name))
            refined = size[0] * size[1] * stage.groups * activation_rate
            total += stage.static_macs(*size)
            total += refined * float(stage.macs_per_refined_pixel().sum())
        size = feature_size((height, width), self.feature_info["res4"].stride)
        for block in self.layer4:
            total += block.macs(*size)
            size = feature_size((height, width), self.feature_info["res5"].stride)
        return total


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


def _start_as_shortcut(block: ResidualBlock) -> None:
    # As in the authors' code, only Bottlenecks, and none of the refinement branch.
    if isinstance(block, Bottleneck):
        block.zero_init_residual()


def _as_selection(selection) -> RegionSelection | None:
    if selection is None or isinstance(selection, RegionSelection):
        return selection
    return RegionSelection(selection)


def _check_numbers(
    groups: int,
    alpha: int,
    beta: float,
    target_rate: float,
    temperature: Sequence[float],
    loss_weight: float,
) -> None:
    for name, value in (("groups", groups), ("alpha", alpha)):
        if not (isinstance(value, int) and value >= 1):
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta!r}")
    if not 0 < target_rate <= 1:
        raise ValueError(f"target_rate must lie in (0, 1], got {target_rate!r}")
    if len(temperature) != 2 or not min(temperature) > 0:
        raise ValueError(f"temperature must be two positive numbers, got {temperature!r}")
    if not loss_weight >= 0:
        raise ValueError(f"loss_weight must not be negative, got {loss_weight!r}")


def _check_regions(cell_size: Sequence[int], grid_size: int | None) -> None:
    if len(cell_size) != 3 or not all(isinstance(c, int) and c >= 1 for c in cell_size):
        raise ValueError(f"cell_size must be three positive integers, got {cell_size!r}")
    if grid_size is not None and not (isinstance(grid_size, int) and grid_size >= 1):
        raise ValueError(f"grid_size must be a positive integer or None, got {grid_size!r}")
