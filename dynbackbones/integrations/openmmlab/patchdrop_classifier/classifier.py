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
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.registry import MODELS as CLASSIFIER_PARTS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from dynbackbones.classifiers import PatchLearning, PatchSelection, build_classifier
from dynbackbones.classifiers.patchdrop import HIGH, STAGES
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.datasets.packed_images import PackedImages as PackedImages
from dynbackbones.integrations.openmmlab.patchdrop_classifier.metrics import (
    PatchUsage as PatchUsage,
)
from dynbackbones.integrations.openmmlab.policy_classifiers import labels_of, refuse_other_networks


@MODELS.register_module()
class PatchDropClassifier(BaseClassifier):
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
        if train_cfg:
            raise UserError(
                "PatchDropClassifier rewards right predictions of single images: remove train_cfg "
                "(batch augmentations such as Mixup)"
            )
        if selection is not None and stage != HIGH:
            raise UserError(f"selection goes with stage {HIGH!r}, not with {stage!r}: remove it")
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = {"type": "ClsDataPreprocessor", **(data_preprocessor or {})}
            data_preprocessor = CLASSIFIER_PARTS.build(data_preprocessor)
        super().__init__(init_cfg, data_preprocessor)
        try:
            self.learning = PatchLearning(sigma, alpha, entropy_weight)
            self.net = build_classifier(**{**classifier, "stage": stage})
            self.patches = selection and PatchSelection(selection, selection_rate)
        except (TypeError, ValueError) as error:
            raise UserError(f"PatchDropClassifier: {error}") from error
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        self.register_load_state_dict_pre_hook(_refuse_other_networks)
        self.register_load_state_dict_post_hook(_check_order)

    @property
    def stage(self) -> str:
        """The stage that trains."""
        return self.net.stage

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Log-probabilities (N, classes), losses or predictions; see mmpretrain's classifiers."""
        inputs = inputs.contiguous(memory_format=self.memory_format)
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode != "tensor":
            raise ValueError(f"mode must be tensor, loss or predict, got {mode!r}")
        with self._selecting():
            return self.net(inputs)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of the stage, and figures to log."""
        with self._selecting():
            return self.learning.losses(self.net, inputs, labels_of(data_samples))

    def predict(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Samples with scores, label, ``patch_policy`` (P,), ``pixel_rate`` and ``macs``."""
        with self._selecting():
            scores = self.net(inputs).exp()
        decisions = self.net.decisions
        samples = data_samples or [DataSample() for _ in scores]
        for index, sample in enumerate(samples):
            sample.set_pred_score(scores[index]).set_pred_label(scores[index].argmax())
            sample.set_field(decisions.policy[index], "patch_policy")
            sample.set_field(float(decisions.pixel_rate[index]), "pixel_rate")
            sample.set_field(float(decisions.macs[index]), "macs")
        return samples

    def _selecting(self) -> Any:
        if self.patches is None:
            return nullcontext()
        seed = int(torch.randint(2**31, (1,))) if self.training else 0
        return self.net.select(self.patches.kind, rate=self.patches.rate, seed=seed)


def _refuse_other_networks(
    model: PatchDropClassifier, state: Mapping[str, Tensor], prefix: str, *rest: Any
) -> None:
    refuse_other_networks(model, state, prefix, type(model.net).__name__)


def _check_order(model: PatchDropClassifier, incompatible: Any) -> None:
    model.net.check_order(model.stage)
