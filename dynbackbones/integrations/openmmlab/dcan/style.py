"""Training a style generator before its use, with mmengine's Runner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from torch import Tensor, nn

from dynbackbones.adaptation import build_generator
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.runner import unwrap_model
from dynbackbones.integrations.openmmlab.dcan.pictures import show

STAGES = ("reconstruct", "style")


@MODELS.register_module()
class StyleGeneratorTraining(BaseModel):
    """A `StyleGenerator` that learns from unlabelled images of both domains.

    Each image of a batch is drawn in the style of the next one. The file that comes out serves as
    ``weights`` of DCANHook's generator.

    Args:
        generator: options of `build_generator`.
        stage: ``"style"`` trains the decoder by eq. 6.2; ``"reconstruct"``, before it, trains
            encoder and decoder to give images back, for an encoder that has no weights of its own.
        data_preprocessor: gives RGB images of 0 to 255.

    Raises:
        UserError: there is no such stage; for the generator's options see `build_generator`.
    """

    def __init__(
        self,
        generator: Mapping[str, Any],
        stage: str = "style",
        data_preprocessor: Mapping[str, Any] | nn.Module | None = None,
    ) -> None:
        super().__init__(
            data_preprocessor=data_preprocessor
            or {"type": "ImgDataPreprocessor", "bgr_to_rgb": True}
        )
        if stage not in STAGES:
            raise UserError(f"stage must be {' or '.join(map(repr, STAGES))}, got {stage!r}")
        self.stage = stage
        self.generator = build_generator(**generator)
        self.generator.encoder.requires_grad_(stage == "reconstruct")

    def forward(
        self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor"
    ) -> dict[str, Tensor] | Tensor:
        """Losses for ``mode="loss"``, else the images in each other's style."""
        inputs = inputs.float()
        if mode != "loss":
            return self.generator.synthesise(inputs, inputs.roll(1, 0))
        if self.stage == "reconstruct":
            return {"loss_reconstruction": self.generator.reconstruction_loss(inputs)}
        return self.generator(inputs, inputs.roll(1, 0)).losses


@HOOKS.register_module()
class StylePictureHook(Hook):
    """Adds pictures of a generator's training to the visualiser: images, and what it makes of them.

    Args:
        interval: iterations between pictures.
        num_images: in a picture.
    """

    priority = "LOW"

    def __init__(self, interval: int = 200, num_images: int = 4) -> None:
        self.interval = interval
        self.num_images = num_images

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if runner.rank != 0 or not self.every_n_train_iters(runner, self.interval):
            return
        model = unwrap_model(runner)
        with torch.no_grad():
            inputs = model.data_preprocessor(data_batch, False)["inputs"].float()
            pictures = (inputs, inputs.roll(1, 0), model(inputs))
        show(runner, "style", pictures, self.num_images)
