"""DCAN in an existing config of mmseg: unsupervised domain adaptation as one hook."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.dist import broadcast_object_list
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dynbackbones import checkpoints
from dynbackbones.adaptation import StyleGenerator, aligned, find_module
from dynbackbones.errors import UserError
from dynbackbones.integrations.image_sizes import forward_arguments, padded_sizes
from dynbackbones.integrations.mmengine.resume import RandomStateHook
from dynbackbones.integrations.mmengine.runner import unwrapped
from dynbackbones.integrations.openmmlab.checks import build_style_generator
from dynbackbones.integrations.openmmlab.dcan.optimizer_group import CLIP_OPTIONS, ConstantGroup
from dynbackbones.integrations.openmmlab.dcan.pictures import style_picture
from dynbackbones.integrations.openmmlab.dcan.synthesis import Synthesiser, pixel_format
from dynbackbones.integrations.openmmlab.dcan.target_images import TargetImages, normalised

GENERATOR = "dcan_generator"
"""Name of the generator inside the model, and of its weights in a checkpoint."""


@HOOKS.register_module()
class DCANHook(RandomStateHook):
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
        super().__init__()
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
        self.target_dataset = target_dataset
        self.generator_options = generator
        self.align_after = align_after
        self.num_targets = num_targets
        self.gen_loss_weight = gen_loss_weight
        self.end_to_end = end_to_end
        self.gen_optim = {"lr": 1e-3, **(gen_optim or {})}
        self.clip_grad = clip_grad
        self.generator_scale = generator_scale
        self.num_workers = num_workers
        self.picture_interval = picture_interval
        self.num_pictures = num_pictures
        self._model: nn.Module | None = None
        self._group: ConstantGroup | None = None
        self._batch: dict | None = None
        self._wants_picture = False
        self._picture: tuple[Tensor, Tensor, Tensor] | None = None
        self._alignment = ExitStack()
        self._losses: dict[str, Tensor] = {}

    @property
    def trains_generator(self) -> bool:
        return self.generator_options is not None and (self.end_to_end or self.gen_loss_weight > 0)

    @property
    def _generator(self) -> StyleGenerator:
        return self._synthesiser.generator

    def before_run(self, runner: Runner) -> None:
        # Only a run that trains has its optimiser built.
        if self._model is not None or not isinstance(runner.optim_wrapper, BaseOptimWrapper):
            return
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise UserError(
                "DCANHook does not work beside EMAHook, which would average the style generator "
                "into the segmentor's checkpoint; take one of them out of the config"
            )
        model = unwrapped(runner)
        if not isinstance(getattr(model, "backbone", None), nn.Module):
            raise UserError(
                f"DCANHook needs a model with a backbone, and {type(model).__name__} has none"
            )
        if self.align_after is not None:
            find_module(model.backbone, self.align_after)
        self._targets = TargetImages(
            self.target_dataset,
            batch_size=_batch_size(runner) * self.num_targets,
            seed=_shared_seed(runner),
            num_workers=self.num_workers,
        )
        if self.generator_options is not None:
            self._attach(runner, model)
        # First, as others look at the batch that the network gets.
        model.register_forward_pre_hook(self._before_forward, with_kwargs=True, prepend=True)
        model.register_forward_hook(self._after_forward, always_call=True)
        self._model = model

    def _attach(self, runner: Runner, model: nn.Module) -> None:
        """Puts the generator into the model, its wrapper, its optimiser."""
        generator = build_style_generator(self.generator_options)
        generator.to(next(model.parameters()).device)
        if self.generator_options.get("weights") is None:
            runner.logger.warning(
                "the style generator's decoder is not trained: its first images show nothing; "
                "train it before (configs/dcan/generator_*.py) and name the file with weights=..."
            )
        generator.decoder.requires_grad_(self.trains_generator)
        self._synthesiser = Synthesiser(
            generator,
            pixel_format(model.data_preprocessor),
            self.generator_scale,
            with_losses=self.gen_loss_weight > 0,
        )
        model.add_module(GENERATOR, generator)
        if is_model_wrapper(runner.model):
            _rewrap(runner, model)
        # Below, weights of the whole model are initialised, and the generator's must stay.
        self._initial: dict | None = copy.deepcopy(generator.state_dict())
        if self.trains_generator:
            parameters = list(generator.decoder.parameters())
            self._group = ConstantGroup(
                runner, parameters, self.gen_optim, self.clip_grad, "generator"
            )

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if self.generator_options is not None and self._initial is not None:
            self._generator.load_state_dict(self._initial)
            self._initial = None
        self._targets.seek(runner.iter)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        super().before_train_iter(runner, batch_idx, data_batch)
        if self._group is not None:
            self._group.restore(runner.optim_wrapper.optimizer)
        self._batch = self._targets.next()
        self._wants_picture = self.picture_interval > 0 and self.every_n_train_iters(
            runner, self.picture_interval
        )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        # Not before: with activation checkpointing, layers run again in the backward pass.
        self._alignment.close()
        self._batch = None
        picture, self._picture = self._picture, None
        if picture is not None and runner.rank == 0:
            shown = style_picture(*(images[: self.num_pictures] for images in picture))
            runner.visualizer.add_image("dcan", shown, step=runner.iter + 1)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        super().before_save_checkpoint(runner, checkpoint)
        if self._model is None or self.generator_options is None:
            return
        state = checkpoint["state_dict"]
        keys = [key for key in state if key.startswith(f"{GENERATOR}.")]
        checkpoint[GENERATOR] = {key.removeprefix(f"{GENERATOR}."): state.pop(key) for key in keys}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        super().after_load_checkpoint(runner, checkpoint)
        if self._model is None or self.generator_options is None:
            return
        resumed = getattr(runner, "_resume", False)
        found = checkpoint.get(GENERATOR)
        if not resumed and self.generator_options.get("weights") is not None:
            # What a run starts from gives the segmentor; the config names the generator.
            found = None
        if found is not None:
            checkpoints.check_architecture(
                self._generator.state_dict(), found, "to load (its style generator)"
            )
            self._initial = found
        elif resumed:
            raise UserError(
                "the checkpoint to resume from has no style generator, so it is of a run without "
                "DCAN; to start from its weights, set load_from instead"
            )
        # mmengine would otherwise complain of absent keys.
        state = checkpoints.state_dict_of(checkpoint)
        own = self._generator.state_dict() if found is None else found
        checkpoint["state_dict"] = {
            **state,
            **{f"{GENERATOR}.{key}": value for key, value in own.items()},
        }

    def _before_forward(
        self, model: nn.Module, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict] | None:
        """Forward pre-hook of the segmentor: other images, and alignment of their features."""
        given = forward_arguments(args, kwargs)
        if given.get("mode") != "loss" or not model.training or self._batch is None:
            return None
        count = self.num_targets
        self._alignment.close()
        source = given["inputs"].repeat_interleave(count, dim=0)
        given["data_samples"] = [sample for sample in given["data_samples"] for _ in range(count)]
        sizes = padded_sizes(source, given["data_samples"])
        # Batches at the end of an epoch may be smaller.
        batch = {key: values[: len(source)] for key, values in self._batch.items()}
        targets = normalised(model, batch)
        if self.generator_options is not None:
            given["inputs"] = self._synthesise(source, targets, sizes)
        else:
            given["inputs"] = source
        if self.align_after is not None:
            self._alignment.enter_context(
                aligned(
                    model.backbone,
                    self.align_after,
                    targets,
                    image_sizes=sizes,
                    padded_size=tuple(source.shape[-2:]),
                )
            )
        return (), given

    def _after_forward(self, model: nn.Module, args: tuple, output: Any) -> Any:
        """Forward hook of the segmentor: adds the generator's losses."""
        if output is None:
            # The pass failed.
            self._alignment.close()
        losses, self._losses = self._losses, {}
        return {**output, **losses} if losses and isinstance(output, dict) else None

    def _synthesise(
        self, source: Tensor, targets: Tensor, sizes: Sequence[tuple[int, int]] | None
    ) -> Tensor:
        """Normalised images in the style of others, and eq. 6.2 for `_after_forward`."""
        with torch.set_grad_enabled(self.trains_generator):
            images, losses = self._synthesiser(source, targets, sizes)
        self._losses = {
            f"dcan.{name}": self.gen_loss_weight * value for name, value in losses.items()
        }
        if self._wants_picture:
            # As the network sees them.
            shown = (source, targets, images.detach())
            self._picture = tuple(map(self._synthesiser.pixels.to_rgb, shown))
        return images if self.end_to_end else images.detach()


def _shared_seed(runner: Runner) -> int:
    """One seed for all processes, which then divide the target images among them."""
    seeds = [runner.seed]  # with `diff_rank_seed` each process has its own
    broadcast_object_list(seeds)
    return seeds[0]


def _batch_size(runner: Runner) -> int:
    loader = runner.train_dataloader
    return loader.batch_size or loader.batch_sampler.batch_size


def _rewrap(runner: Runner, model: nn.Module) -> None:
    """Has distributed training know parameters that were added to the model."""
    if not isinstance(runner.model, DistributedDataParallel):
        raise UserError(
            f"DCANHook cannot add its generator to a model in {type(runner.model).__name__}; use "
            "MMDistributedDataParallel"
        )
    # The old wrapper goes first: its hooks on the parameters go with it.
    runner.model = model
    runner.model = runner.wrap_model(runner.cfg.get("model_wrapper_cfg"), model)
