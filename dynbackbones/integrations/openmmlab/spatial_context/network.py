"""A spatial context network as mmpretrain trains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from dynbackbones.adaptation import PixelFormat
from dynbackbones.backbones import Backbone
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.spatial_context import teachers  # noqa: F401 (registers)
from dynbackbones.integrations.openmmlab.staged_classifier import mistakes_of
from dynbackbones.pretraining import (
    SpatialContextModule,
    TargetScaling,
    Teacher,
    context_loss,
    explained_variance,
    pooled,
)
from dynbackbones.pretraining.spatial_context import squared_distances

MODELS.register_module(module=SpatialContextModule)
_CHUNK = 64


@MODELS.register_module()
class SpatialContextNetwork(BaseSelfSupervisor):
    """Predicts a teacher's features of a patch from another patch and the offset between them.

    The backbone is what comes out; the teacher is no part of the model's weights nor of its
    backbones.

    Args:
        backbone: the student (the bottom stream); at least a stage of it must train.
        target_generator: the teacher (the top stream): ``dict(type="ContextTeacher", ...)`` or
            ``dict(type="ImageNetTeacher", pretrained=...)``.
        neck: options of `SpatialContextModule`; ``channels`` and ``target_channels`` follow from
            the student and the teacher.
        target_norm: ``"standardise"``, or ``"none"`` as in the dissertation; see `TargetScaling`.
        cached_targets: patches whose targets are kept in memory at most; patches are not
            augmented, so that their targets stay. 0 keeps none.
        data_preprocessor: of the student: mmpretrain's `SelfSupDataPreprocessor`.
        init_cfg: see mmpretrain's `BaseSelfSupervisor`.

    Raises:
        UserError: there is no teacher, nothing of the backbone trains, or an option is wrong.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        target_generator: Mapping[str, Any] | Teacher | None = None,
        neck: Mapping[str, Any] | None = None,
        target_norm: str = "standardise",
        cached_targets: int = 0,
        data_preprocessor: Mapping[str, Any] | nn.Module | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if isinstance(data_preprocessor, Mapping):
            data_preprocessor = dict(data_preprocessor)
        super().__init__(backbone, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if target_generator is None:
            raise UserError(
                "SpatialContextNetwork needs a teacher: set target_generator to "
                "dict(type='ContextTeacher', backbone=..., pretrained=...)"
            )
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            raise UserError(
                "nothing of the model's backbone trains: lower model.backbone.frozen_stages "
                "(3 trains the last stage alone, -1 all of it)"
            )
        if not isinstance(target_generator, Teacher):
            target_generator = MODELS.build(dict(target_generator))
        # No module, so neither weights nor a second backbone of this model.
        self.target_generator = target_generator
        self.cached_targets = cached_targets
        self._cache: dict[str, Tensor] = {}
        with mistakes_of(self):
            self.neck = self._context_module(dict(neck or {}))
            self.scaling = TargetScaling(self.neck.target.out_features, target_norm)

    def _context_module(self, options: dict[str, Any]) -> SpatialContextModule:
        options.pop("type", None)
        found = self.target_generator.channels()
        if options.setdefault("target_channels", found) != found:
            raise ValueError(
                f"neck.target_channels is {options['target_channels']}, and the teacher's features "
                f"have {found}; leave it out"
            )
        if isinstance(self.backbone, Backbone):
            infos = list(self.backbone.feature_info.values())
            last = getattr(self.backbone, "out_indices", [len(infos) - 1])[-1]
            options.setdefault("channels", infos[last].channels)
        return SpatialContextModule(**options)

    @property
    def pixels(self) -> PixelFormat:
        """Of the student's images."""
        preprocessor = self.data_preprocessor
        bgr = not preprocessor._channel_conversion
        if not preprocessor._enable_normalize:
            return PixelFormat((0.0,) * 3, (1.0,) * 3, bgr)
        mean, std = (tuple(v.flatten().tolist()) for v in (preprocessor.mean, preprocessor.std))
        return PixelFormat(mean, std, bgr)

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        data_samples: list[DataSample] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Losses, predictions, or the backbone's features; see mmpretrain's `BaseSelfSupervisor`.

        Args:
            inputs: the targets' patches and the contexts', (N, 3, S, S) each; for
                ``mode="tensor"`` images.
            data_samples: each with ``offset`` (8,) and the target's name ``patch``.
            mode: ``"tensor"``, ``"loss"`` or ``"predict"``.
        """
        if mode == "predict":
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def loss(self, inputs: Sequence[Tensor], data_samples: list[DataSample]) -> dict[str, Tensor]:
        """``loss_context`` of eq. 5.2, and ``explained_variance`` of the batch."""
        if len(data_samples) < 2:
            raise UserError(
                "a batch of one pair has no variance to explain; set "
                "train_dataloader.batch_size to 2 or more"
            )
        _, predicted, targets = self._streams(inputs, data_samples)
        explained = explained_variance(predicted.detach(), targets, self._mean(targets))
        return {
            "loss_context": context_loss(predicted, targets),
            "explained_variance": targets.new_tensor(explained),
        }

    @torch.no_grad()
    def predict(
        self, inputs: Sequence[Tensor], data_samples: list[DataSample]
    ) -> list[DataSample]:
        """Samples with ``error``, ``error_shuffled`` (with another pair's offset), ``target``,
        ``h1`` and ``h3``, on the scale that is learned.
        """
        h1, h3, targets = self._streams(inputs, data_samples)
        others = self.neck(h1, self._offsets(data_samples).roll(1, 0))
        errors = squared_distances(h3, targets), squared_distances(others, targets)
        for index, sample in enumerate(data_samples):
            sample.set_field(float(errors[0][index]), "error")
            sample.set_field(float(errors[1][index]), "error_shuffled")
            for name, values in (("target", targets), ("h1", h1), ("h3", h3)):
                sample.set_field(values[index], name)
        return data_samples

    def fit_targets(self, patches: Tensor) -> None:
        """Sets the targets' scale.

        Args:
            patches: (N, 3, S, S) uint8 RGB of the training images.

        Raises:
            UserError: the teacher computes NaN or infinity.
        """
        device, teacher = self.scaling.mean.device, self.target_generator
        targets = torch.cat([teacher(part.to(device)) for part in patches.split(_CHUNK)])
        if not bool(targets.isfinite().all()):
            raise UserError(
                f"the teacher {teacher.source} computes NaN or infinity of patches of the training "
                f"images, so there are no targets (target_norm={self.scaling.norm!r}); see whether "
                "its file is whole, and its mean and std those of its training"
            )
        self.scaling.fit(targets)

    def _streams(
        self, inputs: Sequence[Tensor], samples: list[DataSample]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h1, h3 and the scaled targets."""
        target, context = inputs
        h1 = pooled(self.backbone(context))
        return h1, self.neck(h1, self._offsets(samples)), self._targets(target, samples)

    def _offsets(self, samples: list[DataSample]) -> Tensor:
        return torch.stack([sample.offset for sample in samples])

    def _mean(self, targets: Tensor) -> Tensor | None:
        """Of the scaled targets over the training images; None if that is not known."""
        return None if self.scaling.norm == "none" else torch.zeros_like(targets[0])

    @torch.no_grad()
    def _targets(self, patches: Tensor, samples: list[DataSample]) -> Tensor:
        names = [sample.patch for sample in samples]
        missing = [index for index, name in enumerate(names) if name not in self._cache]
        if missing:
            made = self.target_generator(self.pixels.to_rgb(patches[missing]))
            new = dict(zip((names[index] for index in missing), made, strict=True))
            for name in list(new)[: max(self.cached_targets - len(self._cache), 0)]:
                self._cache[name] = new[name].cpu()
        else:
            new = {}
        found = [new[name] if name in new else self._cache[name] for name in names]
        return self.scaling(torch.stack([one.to(patches.device) for one in found]))
