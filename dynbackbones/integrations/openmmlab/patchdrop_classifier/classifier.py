"""PatchDrop's training on mmpretrain, stage by stage; needs mmpretrain, so configs import it.

custom_imports = dict(imports=["dynbackbones.integrations.openmmlab.patchdrop_classifier"])

brings with it the dataset `PackedImages` and the metric `PatchUsage`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from dynbackbones.classifiers import (
    PatchDrop,
    PatchLearning,
    PatchSelection,
    build_classifier,
)
from dynbackbones.classifiers.patchdrop import HIGH, STAGES
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.datasets.packed_images import PackedImages as PackedImages
from dynbackbones.integrations.openmmlab.patchdrop_classifier.metrics import (
    PatchUsage as PatchUsage,
)
from dynbackbones.integrations.openmmlab.staged_classifier import StagedClassifier, mistakes_of


@MODELS.register_module()
class PatchDropClassifier(StagedClassifier):
    """A classifier of `build_classifier` in mmpretrain, which trains one of its stages.

    See `PatchDrop.set_stage` for the stages. A checkpoint of the stage before is named by
    ``load_from``; one of another network is refused, and one that lacks what the stage builds on.
    `DynamicBackboneHook` moves ``alpha``.

    Args:
        classifier: arguments of `build_classifier`: ``name``, ``num_classes`` and options.
        data_preprocessor, init_cfg: see mmpretrain's `ImageClassifier`.
        train_cfg: None; rewards need one class for each image.
        stage: ``"high"``, ``"low"``, ``"policy"``, ``"joint"`` or ``"two_stream"``.
        sigma, alpha, entropy_weight: see `PatchLearning`.
        selection: of stage "high", fixed patches instead of all; see `PatchSelection`. Those that
            draw do so anew for each batch in training.
        selection_rate: share of the patches that ``selection`` takes.
        channels_last: memory format; a third faster on CPUs, for networks as thin as CIFAR's.

    Raises:
        UserError: an option has a wrong value, or options do not go together.
    """

    def __init__(
        self,
        classifier: Mapping[str, Any],
        data_preprocessor: Mapping[str, Any] | nn.Module | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        stage: str = HIGH,
        sigma: float = 0.5,
        alpha: float | Sequence[float] = 0.8,
        entropy_weight: float = 0.0,
        selection: str | Sequence | None = None,
        selection_rate: float = 1.0,
        channels_last: bool = False,
    ) -> None:
        if stage not in STAGES:
            raise UserError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
        if selection is not None and stage != HIGH:
            raise UserError(f"selection goes with stage {HIGH!r}, not with {stage!r}: remove it")
        with mistakes_of(self):
            patches = selection and PatchSelection(selection, selection_rate)

        def make() -> tuple[PatchDrop, PatchLearning]:
            net = build_classifier(**{**classifier, "stage": stage})
            return net, PatchLearning(sigma, alpha, entropy_weight)

        super().__init__(make, data_preprocessor, train_cfg, init_cfg, channels_last)
        self.patches = patches

    def scores(self, inputs: Tensor) -> Tensor:
        """See `StagedClassifier.scores`."""
        with self._selecting():
            return self.net(inputs)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of the stage, and figures to log."""
        with self._selecting():
            return super().loss(inputs, data_samples)

    def fields(self, index: int) -> dict[str, Any]:
        """``patch_policy`` (P,) and ``pixel_rate``."""
        decisions = self.net.decisions
        rate = float(decisions.pixel_rate[index])
        return {"patch_policy": decisions.policy[index], "pixel_rate": rate}

    def _selecting(self) -> Any:
        if self.patches is None:
            return nullcontext()
        seed = int(torch.randint(2**31, (1,))) if self.training else 0
        return self.net.select(self.patches.kind, rate=self.patches.rate, seed=seed)
