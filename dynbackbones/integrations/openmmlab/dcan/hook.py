"""DCAN in an existing config of mmseg: unsupervised domain adaptation as one hook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.hook_group import HookGroup
from dynbackbones.integrations.mmengine.resume import RandomStateHook
from dynbackbones.integrations.mmengine.runner import unwrap_model
from dynbackbones.integrations.openmmlab.dcan.adaptation import AdaptationHook
from dynbackbones.integrations.openmmlab.dcan.generator import GeneratorHook
from dynbackbones.integrations.openmmlab.dcan.optimizer_group import CLIP_OPTIONS
from dynbackbones.integrations.openmmlab.dcan.pictures import DrawnPictureHook
from dynbackbones.integrations.openmmlab.dcan.target_images import TargetImagesHook


@HOOKS.register_module()
class DCANHook(HookGroup):
    """Dual channel-wise alignment (DCAN, section 6.3.2) of any segmentor with a backbone.

    Stands in ``custom_hooks``. In training, every labelled source image is drawn in the style of an
    unlabelled target image, and the backbone's features of it are aligned with those of the target
    image. The losses of the generator join those of the segmentor. In validation and test nothing
    of this happens: the network is the plain one. Checkpoints hold the generator beside, not in,
    the segmentor's weights, so that they fit the config without this hook.

    Args:
        target_dataset: config of the target images; its pipeline loads no labels.
        generator: options of `build_generator`; None leaves images as they are (feature level
            only).
        align_after: a feature (``"res3"``) or module of the backbone, see `find_module`; None
            aligns no features (pixel level only).
        num_targets: target images for each source image. The source image meets them one at a
            time (eq. 6.4), so that the batch grows by this factor.
        gen_loss_weight: of eq. 6.2 in the sum of losses.
        end_to_end: the segmentor's loss trains the generator too. Otherwise, with
            ``gen_loss_weight=0``, it is fixed: the second of two stages.
        gen_optim: options of the generator's group in the optimiser, which schedulers do not
            change; by default a learning rate of 1e-3.
        clip_grad: ``max_norm`` and ``norm_type`` for the generator's gradients alone.
        generator_scale: images are enlarged by this factor for the generator, and what it makes is
            reduced again. More than 1 keeps details that a small encoder would blur.
        num_workers: processes that load target images.
        picture_interval: iterations between pictures of source, target and synthesised images; 0
            for none.
        num_pictures: images in such a picture.

    Raises:
        UserError: an option has no possible value.
    """

    def __init__(
        self,
        target_dataset: Mapping[str, Any],
        generator: Mapping[str, Any] | None,
        align_after: str | None = "res3",
        num_targets: int = 1,
        gen_loss_weight: float = 0.1,
        end_to_end: bool = True,
        gen_optim: Mapping[str, Any] | None = None,
        clip_grad: Mapping[str, Any] | None = None,
        generator_scale: float = 1.0,
        num_workers: int = 1,
        picture_interval: int = 500,
        num_pictures: int = 4,
    ) -> None:
        if generator is None and align_after is None:
            raise UserError(
                "DCANHook has nothing to do: give a generator (pixel level), align_after (feature "
                "level) or both"
            )
        for name, value, least in (
            ("num_targets", num_targets, 1),
            ("num_workers", num_workers, 0),
            ("picture_interval", picture_interval, 0),
            ("num_pictures", num_pictures, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise UserError(f"{name} must be a whole number from {least} on, got {value!r}")
        if not gen_loss_weight >= 0:
            raise UserError(f"gen_loss_weight must not be negative, got {gen_loss_weight!r}")
        if not generator_scale > 0:
            raise UserError(f"generator_scale must be positive, got {generator_scale!r}")
        unknown = sorted(set(clip_grad or {}) - set(CLIP_OPTIONS))
        if unknown or (clip_grad is not None and "max_norm" not in clip_grad):
            raise UserError(f"clip_grad takes max_norm and norm_type, got {dict(clip_grad)}")
        targets = TargetImagesHook(target_dataset, num_targets, num_workers)
        parts: list[Hook] = [RandomStateHook(), targets]
        drawing = None
        if generator is not None:
            drawing = GeneratorHook(
                generator,
                loss_weight=gen_loss_weight,
                end_to_end=end_to_end,
                optim={"lr": 1e-3, **(gen_optim or {})},
                clip_grad=clip_grad,
                scale=generator_scale,
            )
            parts.append(drawing)
        adaptation = AdaptationHook(targets, num_targets, drawing, align_after)
        if drawing is not None:
            # Before the adaptation, which forgets after an iteration what was drawn in it.
            parts.append(DrawnPictureHook(adaptation, drawing, picture_interval, num_pictures))
        super().__init__(*parts, adaptation)
        self._attached = False

    def before_run(self, runner: Runner) -> None:
        # Only a run that trains has its optimiser built.
        if self._attached or not isinstance(runner.optim_wrapper, BaseOptimWrapper):
            return
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise UserError(
                "DCANHook does not work beside EMAHook, which would average the style generator "
                "into the segmentor's checkpoint; take one of them out of the config"
            )
        model = unwrap_model(runner)
        if not isinstance(getattr(model, "backbone", None), nn.Module):
            raise UserError(
                f"DCANHook needs a model with a backbone, and {type(model).__name__} has none"
            )
        super().before_run(runner)
        self._attached = True
