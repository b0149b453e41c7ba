"""Classifiers of `build_classifier` in mmpretrain, which train one of their stages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.registry import MODELS as CLASSIFIER_PARTS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from dynbackbones.classifiers.base import DynamicClassifier
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.policy_classifiers import labels_of
from dynbackbones.integrations.openmmlab.weights import refuse_other_networks


@contextmanager
def mistakes_of(model: nn.Module) -> Iterator[None]:
    """Inside, options that are refused are a mistake of who wrote the model's config."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise UserError(f"{type(model).__name__}: {error}") from error


class StagedClassifier(BaseClassifier):
    """What those classes share; mmengine's hook moves the network's schedules.

    Args:
        make: the network and what knows its losses; what it refuses is a mistake of the user's.
        data_preprocessor, init_cfg: see mmpretrain's `ImageClassifier`.
        train_cfg: None; rewards need one class for each image.
        channels_last: memory format; a third faster on CPUs, for thin networks.

    Raises:
        UserError: an option has a wrong value.
    """

    def __init__(
        self,
        make: Callable[[], tuple[DynamicClassifier, Any]],
        data_preprocessor: Mapping[str, Any] | nn.Module | None,
        train_cfg: Mapping[str, Any] | None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        channels_last: bool,
    ) -> None:
        name = type(self).__name__
        if train_cfg:
            raise UserError(
                f"{name} rewards right predictions of single images: remove train_cfg (batch "
                "augmentations such as Mixup)"
            )
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = {"type": "ClsDataPreprocessor", **(data_preprocessor or {})}
            data_preprocessor = CLASSIFIER_PARTS.build(data_preprocessor)
        super().__init__(init_cfg, data_preprocessor)
        with mistakes_of(self):
            self.net, self.learning = make()
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
        return self.scores(inputs)

    def scores(self, inputs: Tensor) -> Tensor:
        """Log-probabilities (N, classes)."""
        return self.net(inputs)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of the stage, and figures to log."""
        return self.learning.losses(self.net, inputs, labels_of(data_samples))

    def predict(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Samples with scores, label, ``macs``, and the `fields` of what was decided."""
        scores = self.scores(inputs).exp()
        samples = data_samples or [DataSample() for _ in scores]
        macs = self.net.decisions.macs
        for index, sample in enumerate(samples):
            sample.set_pred_score(scores[index]).set_pred_label(scores[index].argmax())
            for name, value in {"macs": float(macs[index]), **self.fields(index)}.items():
                sample.set_field(value, name)
        return samples

    @abstractmethod
    def fields(self, index: int) -> dict[str, Any]:
        """What was decided for an image of the last batch."""


def _refuse_other_networks(
    model: StagedClassifier, state: Mapping[str, Tensor], prefix: str, *rest: Any
) -> None:
    refuse_other_networks(model, state, prefix, type(model.net).__name__)


def _check_order(model: StagedClassifier, incompatible: Any) -> None:
    model.net.check_order(model.stage)
