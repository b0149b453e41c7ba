"""What SAR networks have in common: schedules, decisions, losses and costs of their stages."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import remember
from dynbackbones.backbones.decisions import Batch, Decisions, Regions
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.backbones.guidance import Guidance
from dynbackbones.backbones.resnet import feature_size, init_weights
from dynbackbones.backbones.sar.decisions import SARDecisions
from dynbackbones.backbones.sar.gain import is_measured
from dynbackbones.backbones.sar.guidance import guidance_loss
from dynbackbones.backbones.sar.loss import stages_rate_loss
from dynbackbones.backbones.sar.options import SAROptions
from dynbackbones.backbones.sar.schedules import (
    TARGET_WORDS,
    scheduled_target,
    scheduled_temperature,
)
from dynbackbones.backbones.sar.selection import RegionSelection
from dynbackbones.backbones.sar.stage import SARStage
from dynbackbones.backbones.sar.stage_output import StageOutput
from dynbackbones.backbones.sar.tracking import follow_target
from dynbackbones.layers.residual import ResidualBlock, chain_macs
from dynbackbones.layers.stem import run_stem, stem_macs


class SARBackbone(DynamicBackbone):
    """A stem, SAR stages called ``layer1``, ``layer2`` and so on, and perhaps ordinary stages.

    Unless a derived class says otherwise, three SAR stages and perhaps an ordinary ``layer4``.

    Args:
        in_channels: channels of the images.
        options: that all SAR networks have.
        execution: see `DynamicBackbone`; stages in training mode are always masked.
        selection: override of the decisions, as for `select`.

    Raises:
        ValueError: an option has a wrong value.
    """

    lr_factors = {"selector": 1.0}

    def __init__(
        self,
        in_channels: int,
        options: SAROptions,
        execution: str,
        selection: "str | Mapping[str, Tensor] | RegionSelection | None",
    ) -> None:
        if selection is not None and not isinstance(selection, RegionSelection):
            selection = RegionSelection(selection)
        super().__init__(in_channels, execution, selection)
        self.target_rate = options.target_rate
        self.target_schedule = options.target_schedule
        self.temperature = (float(options.temperature[0]), float(options.temperature[1]))
        self.loss_weight = options.loss_weight
        self.loss_reduction = options.loss_reduction
        self.loss_rate = options.loss_rate
        self.track_target = options.track_target
        self.guidance = options.guidance
        self.guidance_classes = tuple(options.guidance_classes)
        self.guidance_weight = options.guidance_weight
        self._static_macs: dict[tuple[int, int], float] = {}

    def _init_weights(self, shortcut_blocks: type[ResidualBlock]) -> None:
        """Initialises all layers.

        Args:
            shortcut_blocks: blocks of this class start as their shortcuts, but for those of the
                refinement branches.
        """
        init_weights(self)
        starting = [block for stage in self._stages_behind() for block in stage]
        for stage in self.stages().values():
            starting += [*stage.base, *stage.whole_blocks()]
            for layer in stage.fusion.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.01)
        for block in starting:
            if isinstance(block, shortcut_blocks):
                block.zero_init_residual()

    def stages(self) -> dict[str, SARStage]:
        """The SAR stages by the name of the feature in which they end."""
        return {"res2": self.layer1, "res3": self.layer2, "res4": self.layer3}

    def stage_stride(self, name: str) -> int:
        """Input pixels per pixel of a SAR stage's refinement branch."""
        return self.feature_info[name].stride

    def behind(self) -> dict[str, list[nn.Module]]:
        """What runs behind the SAR stages, in order, by the features in which it ends.

        ``res4`` is what the last one hands on, not its fusion.
        """
        return {"res4": [], **({"res5": [self.layer4]} if hasattr(self, "layer4") else {})}

    def _stages_behind(self) -> list[nn.Module]:
        return [module for modules in self.behind().values() for module in modules]

    def parts(self) -> list[list[nn.Module]]:
        stages, parts = list(self.stages().values()), super().parts()
        return [
            part[0].frozen_parts() if part[0] in stages else part for part in parts
        ]

    def own_parameters(self) -> dict[str, list[nn.Parameter]]:
        return {"selector": [p for s in self.stages().values() for p in s.selectors.parameters()]}

    def thresholds(self) -> list[Tensor]:
        return [one.threshold for stage in self.stages().values() for one in stage.selectors]

    def sparse_convolutions(self) -> set[nn.Conv2d]:
        blocks = [block for stage in self.stages().values() for block in stage.refined_blocks()]
        return {conv for block in blocks for conv, _ in block.residual_layers()}

    def timed_parts(self) -> dict[str, list[nn.Module]]:
        parts, stages = super().timed_parts(), list(self.stages().values())
        rest = {name: modules for name, modules in parts.items() if modules[0] not in stages}
        shortcuts = [block.downsample for stage in stages for block in stage.refined_blocks()]
        return {
            "stem": rest.pop("stem"),
            "base branch": [m for stage in stages for m in (stage.base_pool, *stage.base)],
            "selectors": [selector for stage in stages for selector in stage.selectors],
            "projection shortcuts": [module for module in shortcuts if module is not None],
            "fusion": [stage.fusion for stage in stages],
            stages[0].whole_name: [block for stage in stages for block in stage.whole_blocks()],
            "refinement": stages,
            **rest,
        }

    @property
    def scheduled_target_rate(self) -> float:
        """The target rate at the present share of training."""
        return scheduled_target(self.target_rate, self.progress, self.target_schedule)

    @property
    def scheduled_temperature(self) -> float:
        """The Gumbel-softmax temperature at the present share of training."""
        return scheduled_temperature(self.temperature, self.progress)

    def aim(self) -> str:
        way = TARGET_WORDS[self.target_schedule]
        return f"regions in {len(self.stages())} stages, target {self.target_rate:g}, {way}"

    def make_selection(
        self, kind: str | Mapping[str, Tensor], rate: float, seed: int
    ) -> RegionSelection:
        return RegionSelection(kind, rate, seed)

    def forward(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Tensor]:
        batch = self._check_inputs(images, image_sizes)
        guidance = self._take_guidance(images)
        x = run_stem(self, images)
        features, outputs = {}, {}
        share = self._measured_share()
        for name, stage in self.stages().items():
            outputs[name] = output = self._run_stage(name, stage, x, batch.sizes, share)
            if name in self.feature_info:
                features[name] = output.fused
            x = output.out
        for name, modules in self.behind().items():
            for module in modules:
                x = module(x)
            features[name] = x

        self.decisions = self._describe(batch, outputs)
        if self.records_auxiliary:
            self._keep_auxiliary(self._losses(outputs, guidance))
            if self.track_target:
                self._track(outputs)
        return features

    def _measured_share(self) -> float | None:
        """The share that selectors are to learn in this pass from the gains of refining."""
        if self.guidance != "gain" or not self.training or not self.records_auxiliary:
            return None
        return self.scheduled_target_rate if is_measured() else None

    def _run_stage(
        self,
        name: str,
        stage: SARStage,
        x: Tensor,
        sizes: list[tuple[int, int]] | None,
        measured_share: float | None,
    ) -> StageOutput:
        valid = None
        if sizes is not None:
            stride = self.stage_stride(name)
            valid = _made_on(x.device, [feature_size(size, stride) for size in sizes])
        override = self.selection and partial(self.selection.masks, name, len(x))
        return stage(
            x,
            valid_sizes=valid,
            override=override,
            temperature=self.scheduled_temperature,
            execution=self.execution,
            measured_share=measured_share,
        )

    def _losses(
        self, outputs: dict[str, StageOutput], guidance: Guidance | None
    ) -> dict[str, Tensor]:
        trained = {n: out for n, out in outputs.items() if out.trained() and out.masks.shape[1]}
        if not trained:
            return {}
        target = self.scheduled_target_rate
        loss = stages_rate_loss(trained.values(), target, self.loss_rate, self.loss_reduction)
        losses = {"loss_activation_rate": self.loss_weight * loss}
        guided = []
        if guidance is not None and self.guidance_weight:
            for name, out in trained.items():
                matters = guidance.importance(*self._edges(name, out))
                guided.append(guidance_loss(out.choice.logits, matters, out.grid))
        guided += [out.gain_loss for out in trained.values() if out.gain_loss is not None]
        if self.guidance == "gain" and not guided:
            # Every process draws whether it measures, and all must name the same losses.
            guided = [0 * out.choice.logits.float().sum() for out in trained.values()]
        if guided:
            losses["loss_guidance"] = self.guidance_weight * torch.stack(guided).mean()
        return losses

    def _track(self, outputs: dict[str, StageOutput]) -> None:
        for name, output in outputs.items():
            if output.choice.sampled is not None:
                thresholds = [one.threshold for one in self.stages()[name].selectors]
                follow_target(thresholds, output, self.scheduled_target_rate)

    def _edges(self, name: str, output: StageOutput) -> tuple[Tensor, Tensor]:
        """Borders of a stage's rows and columns of cells in pixels of the images."""
        stride, grid = self.stage_stride(name), output.grid
        return grid.row_edges * stride, grid.col_edges * stride

    def _describe(self, batch: Batch, outputs: dict[str, StageOutput]) -> Decisions:
        if not any(output.masks.shape[1] for output in outputs.values()):
            return Decisions(batch, self._count_base)  # base branches alone decide nothing
        regions = {}
        for name, output in outputs.items():
            rows, columns = self._edges(name, output)
            regions[name] = Regions(
                masks=output.masks,
                argmax_masks=output.choice.argmax,
                row_edges=rows.clamp(max=batch.size[0]),
                col_edges=columns.clamp(max=batch.size[1]),
                areas=output.grid.areas,
                finite=output.finite(),
            )
        sampled = any(output.trained() for output in outputs.values())
        return SARDecisions(batch, self._count_macs, regions, sampled)

    def _count_base(self, decisions: Decisions) -> Tensor:
        sizes = decisions.image_sizes
        static = [remember(self._static_macs, size, self._count_static) for size in sizes]
        return torch.tensor(static, dtype=torch.float64)

    def _count_macs(self, decisions: SARDecisions) -> Tensor:
        costs = [self.stages()[name].macs_per_refined_pixel() for name in decisions.stages]
        return self._count_base(decisions) + decisions.refined_pixels() @ torch.cat(costs)

    def _count_static(self, size: tuple[int, int]) -> float:
        return self.macs(*size, share=0)

    def macs(self, height: int, width: int, share: float = 1.0) -> float:
        """Multiply-accumulates for an image of this size in pixels, at activation rate ``share``.

        Convolutions and linear layers count, as in SAR's tables.
        """
        total = float(stem_macs(self, height, width))
        for name, stage in self.stages().items():
            stride = self.stage_stride(name)
            size = feature_size((height, width), stride)
            refined = size[0] * size[1] * stage.groups * share
            before = feature_size((height, width), stride // stage.first_stride)
            total += stage.static_macs(size, before)
            total += refined * float(stage.macs_per_refined_pixel().sum())
            stride *= stage.last_stride
        size = feature_size((height, width), stride)
        return total + chain_macs(self._stages_behind(), *size)


def _made_on(device: torch.device, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Sizes as an (N, 2) tensor of integers, without a copy from the host.

    A GPU's forward pass would wait for the copy, and CUDA graphs cannot contain it.
    """
    known = {length: torch.full((), length, device=device) for size in sizes for length in size}
    return torch.stack([known[length] for size in sizes for length in size]).view(-1, 2)
