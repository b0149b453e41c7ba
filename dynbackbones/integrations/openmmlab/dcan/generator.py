"""DCAN's style generator inside the segmentor that it serves."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dynbackbones import checkpoints
from dynbackbones.adaptation import StyleGenerator, Synthesis
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.runner import unwrap_model
from dynbackbones.integrations.openmmlab.checks import build_style_generator
from dynbackbones.integrations.openmmlab.dcan.optimizer_group import ConstantGroup
from dynbackbones.integrations.openmmlab.dcan.synthesis import Synthesiser, pixel_format

GENERATOR = "dcan_generator"
"""Name of the generator inside the model, and of its weights in a checkpoint."""


class GeneratorHook(Hook):
    """Puts a style generator into a model, its wrapper, its optimiser and its checkpoints.

    Checkpoints hold it beside, not in, the segmentor's weights.

    Args:
        options: of `build_generator`.
        loss_weight: of eq. 6.2 in the sum of losses.
        end_to_end: the segmentor's loss trains the generator too.
        optim: options of its group in the optimiser.
        clip_grad: of its gradients alone, or None.
        scale: images are enlarged by this factor for it.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        loss_weight: float,
        end_to_end: bool,
        optim: Mapping[str, Any],
        clip_grad: Mapping[str, Any] | None,
        scale: float,
    ) -> None:
        self._options = options
        self._loss_weight = loss_weight
        self._end_to_end = end_to_end
        self._optim = optim
        self._clip_grad = clip_grad
        self._scale = scale
        self._synthesiser: Synthesiser | None = None
        self._group: ConstantGroup | None = None
        self._initial: dict[str, Tensor] | None = None

    @property
    def trains(self) -> bool:
        """Whether anything trains the generator; otherwise it stays as it is."""
        return self._end_to_end or self._loss_weight > 0

    @property
    def _generator(self) -> StyleGenerator:
        return self._synthesiser.generator

    def draw(
        self, source: Tensor, targets: Tensor, sizes: Sequence[tuple[int, int]] | None
    ) -> Synthesis:
        """Source images in the style of targets, see `Synthesiser`, and weighted losses."""
        with torch.set_grad_enabled(self.trains):
            images, losses = self._synthesiser(source, targets, sizes)
        weighted = {f"dcan.{name}": self._loss_weight * value for name, value in losses.items()}
        return Synthesis(images if self._end_to_end else images.detach(), weighted)

    def to_rgb(self, images: Tensor) -> Tensor:
        """Normalised images as pixels."""
        return self._synthesiser.pixels.to_rgb(images)

    def before_run(self, runner: Runner) -> None:
        model = unwrap_model(runner)
        generator = build_style_generator(self._options)
        generator.to(next(model.parameters()).device)
        if self._options.get("weights") is None:
            runner.logger.warning(
                "the style generator's decoder is not trained: its first images show nothing; "
                "train it before (configs/dcan/generator_*.py) and name the file with weights=..."
            )
        generator.decoder.requires_grad_(self.trains)
        self._synthesiser = Synthesiser(
            generator,
            pixel_format(model.data_preprocessor),
            self._scale,
            with_losses=self._loss_weight > 0,
        )
        model.add_module(GENERATOR, generator)
        if is_model_wrapper(runner.model):
            _rewrap(runner, model)
        # Before training, weights of the whole model are initialised; the generator's must stay.
        self._initial = copy.deepcopy(generator.state_dict())
        if self.trains:
            parameters = list(generator.decoder.parameters())
            self._group = ConstantGroup(
                runner, parameters, self._optim, self._clip_grad, "generator"
            )

    def before_train(self, runner: Runner) -> None:
        if self._initial is not None:
            self._generator.load_state_dict(self._initial)
            self._initial = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._group is not None:
            self._group.restore(runner.optim_wrapper.optimizer)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._synthesiser is None:
            return
        state = checkpoint["state_dict"]
        keys = [key for key in state if key.startswith(f"{GENERATOR}.")]
        checkpoint[GENERATOR] = {key.removeprefix(f"{GENERATOR}."): state.pop(key) for key in keys}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._synthesiser is None:
            return
        resumed = getattr(runner, "_resume", False)
        found = checkpoint.get(GENERATOR)
        if not resumed and self._options.get("weights") is not None:
            # What a run starts from gives the segmentor; the config names the generator.
            found = None
        own = self._generator.state_dict()
        if found is not None:
            checkpoints.check_architecture(own, found, "to load (its style generator)")
            self._initial = own = found
        elif resumed:
            raise UserError(
                "the checkpoint to resume from has no style generator, so it is of a run without "
                "DCAN; to start from its weights, set load_from instead"
            )
        # mmengine would otherwise complain of absent keys.
        checkpoint["state_dict"] = {
            **checkpoints.state_dict_of(checkpoint),
            **{f"{GENERATOR}.{key}": value for key, value in own.items()},
        }


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
