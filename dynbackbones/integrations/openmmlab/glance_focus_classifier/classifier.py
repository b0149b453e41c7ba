"""Glance and Focus on mmpretrain, stage by stage; needs mmpretrain, so configs import it.

custom_imports = dict(imports=["dynbackbones.integrations.openmmlab.glance_focus_classifier"])

brings with it the metric `FocusUsage`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from dynbackbones.checkpoints import load_weights
from dynbackbones.classifiers import FocusLearning, GlanceFocusClassifier, build_classifier
from dynbackbones.classifiers.encoder import Encoder
from dynbackbones.classifiers.glance_focus.stages import STAGES, WARM_UP
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.glance_focus_classifier.metrics import (
    FocusUsage as FocusUsage,
)
from dynbackbones.integrations.openmmlab.staged_classifier import StagedClassifier


@MODELS.register_module(name="GlanceFocusClassifier")
class GlanceFocus(StagedClassifier):
    """A `GlanceFocusClassifier` in mmpretrain, which trains one of its stages.

    See `GlanceFocusClassifier.set_stage` for the stages. A checkpoint of the stage before is named
    by ``load_from``; one of another network is refused, and one that lacks what the stage builds
    on.

    Args:
        classifier: arguments of `build_classifier`: ``name``, ``num_classes`` and options.
        data_preprocessor, init_cfg: see mmpretrain's `ImageClassifier`.
        train_cfg: None; rewards need one class for each image.
        stage: ``"warm_up"``, ``"policy"`` or ``"fine_tune"``.
        auxiliary_weight, deviation, discount, value_weight: see `FocusLearning`.
        glance_weights, local_weights: what both encoders start from in training, files of ordinary
            classifiers; the authors train the first at the size of a patch. Of this package's
            backbones alone.
        channels_last: memory format; a third faster on CPUs, for thin networks.

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
        stage: str = WARM_UP,
        auxiliary_weight: float = 1.0,
        deviation: float = 0.1,
        discount: float = 0.7,
        value_weight: float = 0.5,
        glance_weights: str | None = None,
        local_weights: str | None = None,
        channels_last: bool = False,
    ) -> None:
        if stage not in STAGES:
            raise UserError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")

        def make() -> tuple[GlanceFocusClassifier, FocusLearning]:
            if not classifier["name"].startswith("glance_focus_"):
                raise ValueError(f"name must begin with glance_focus_, got {classifier['name']!r}")
            net = build_classifier(**{**classifier, "stage": stage})
            return net, FocusLearning(auxiliary_weight, deviation, discount, value_weight)

        super().__init__(make, data_preprocessor, train_cfg, init_cfg, channels_last)
        self.starts = {"glance": glance_weights, "local": local_weights}
        for part, file in self.starts.items():
            if file is not None and not isinstance(getattr(self.net, part), Encoder):
                raise UserError(
                    f"{part}_weights={file} is for a backbone of this package, not for that of "
                    f"{classifier['name']}: load it into net.{part}.model in Python"
                )

    def init_weights(self) -> None:
        """Loads what the encoders start from; mmengine calls it before a training."""
        super().init_weights()
        for part, file in self.starts.items():
            if file is not None:
                load_weights(getattr(self.net, part).backbone, file)

    def fields(self, index: int) -> dict[str, Any]:
        """``focus_steps``, ``focus_boxes`` (T, 4) and ``focus_confidences`` (T,)."""
        decisions = self.net.decisions
        return {
            "focus_steps": int(decisions.steps[index]),
            "focus_boxes": decisions.boxes[index],
            "focus_confidences": decisions.confidences[index],
        }
