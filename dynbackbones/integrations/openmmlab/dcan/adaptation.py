"""Training passes of a segmentor on images, and with features, in the style of target images."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from dynbackbones.adaptation import aligned, find_module
from dynbackbones.integrations.image_sizes import forward_arguments, padded_sizes
from dynbackbones.integrations.mmengine.runner import unwrap_model
from dynbackbones.integrations.openmmlab.dcan.generator import GeneratorHook
from dynbackbones.integrations.openmmlab.dcan.target_images import TargetImagesHook, normalised


class Drawn(NamedTuple):
    """What a generator made in a training pass, each (N, 3, H, W), normalised."""

    source: Tensor
    targets: Tensor
    images: Tensor


class AdaptationHook(Hook):
    """Shows a segmentor other images in training, and aligns its backbone's features of them.

    Args:
        targets: gives the target images of each iteration.
        num_targets: for each source image, which meets them one at a time (eq. 6.4).
        generator: draws source images in the style of targets; None leaves them as they are.
        align_after: a feature or module of the backbone, see `find_module`; None aligns nothing.

    Attributes:
        drawn: of the training pass of this iteration; None where nothing was drawn.
    """

    def __init__(
        self,
        targets: TargetImagesHook,
        num_targets: int,
        generator: GeneratorHook | None,
        align_after: str | None,
    ) -> None:
        self._targets = targets
        self._num_targets = num_targets
        self._generator = generator
        self._align_after = align_after
        self._alignment = ExitStack()
        self._losses: dict[str, Tensor] = {}
        self.drawn: Drawn | None = None

    def before_run(self, runner: Runner) -> None:
        model = unwrap_model(runner)
        if self._align_after is not None:
            find_module(model.backbone, self._align_after)
        # First, as others look at the batch that the network gets.
        model.register_forward_pre_hook(self._before_forward, with_kwargs=True, prepend=True)
        model.register_forward_hook(self._after_forward, always_call=True)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        # Not before: with activation checkpointing, layers run again in the backward pass.
        self._alignment.close()
        self.drawn = None

    def _before_forward(
        self, model: nn.Module, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict] | None:
        """Forward pre-hook of the segmentor: other images, and alignment of their features."""
        given = forward_arguments(args, kwargs)
        if given.get("mode") != "loss" or not model.training or self._targets.batch is None:
            return None
        count = self._num_targets
        self._alignment.close()
        source = given["inputs"].repeat_interleave(count, dim=0)
        samples = [sample for sample in given["data_samples"] for _ in range(count)]
        sizes = padded_sizes(source, samples)
        # Batches at the end of an epoch may be smaller.
        batch = {key: values[: len(source)] for key, values in self._targets.batch.items()}
        targets = normalised(model, batch)
        images = source
        if self._generator is not None:
            images, self._losses = self._generator.draw(source, targets, sizes)
            self.drawn = Drawn(source, targets, images.detach())
        if self._align_after is not None:
            alignment = aligned(
                model.backbone,
                self._align_after,
                targets,
                image_sizes=sizes,
                padded_size=tuple(source.shape[-2:]),
            )
            self._alignment.enter_context(alignment)
        return (), {**given, "inputs": images, "data_samples": samples}

    def _after_forward(self, model: nn.Module, args: tuple, output: Any) -> Any:
        """Forward hook of the segmentor: adds the generator's losses."""
        if output is None:
            # The pass failed.
            self._alignment.close()
        losses, self._losses = self._losses, {}
        return {**output, **losses} if losses and isinstance(output, dict) else None
