"""Pictures of what a style generator makes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from dynbackbones.integrations.openmmlab.dcan.adaptation import AdaptationHook
from dynbackbones.integrations.openmmlab.dcan.generator import GeneratorHook
from dynbackbones.integrations.openmmlab.pictures import add_title

COLUMNS = ("source", "target", "synthesised")


class DrawnPictureHook(Hook):
    """Adds pictures of source, target and synthesised images to the visualiser.

    Args:
        adaptation: knows them.
        generator: what drew them.
        interval: iterations between pictures; 0 for none.
        num_images: in a picture.
    """

    def __init__(
        self, adaptation: AdaptationHook, generator: GeneratorHook, interval: int, num_images: int
    ) -> None:
        self._adaptation = adaptation
        self._generator = generator
        self._interval = interval
        self._num_images = num_images

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        drawn = self._adaptation.drawn
        if drawn is not None and self.every_n_train_iters(runner, self._interval):
            show(runner, "dcan", map(self._generator.to_rgb, drawn), self._num_images)


def show(runner: Runner, name: str, images: Iterable[Tensor], num_images: int) -> None:
    """Gives the main process's visualiser a `style_picture` of the first images."""
    if runner.rank == 0:
        picture = style_picture(*(several[:num_images] for several in images))
        runner.visualizer.add_image(name, picture, step=runner.iter + 1)


def style_picture(source: Tensor, target: Tensor, synthesised: Tensor) -> np.ndarray:
    """A row for each source image: it, its target and what was made of both.

    Args:
        source, target, synthesised: (N, 3, H, W) RGB of 0 to 255; targets of another size are
            shown in the source's.

    Returns:
        uint8, RGB.
    """
    target = F.interpolate(target, tuple(source.shape[-2:]), mode="bilinear", antialias=True)
    rows = []
    for images in zip(source, target, synthesised, strict=True):
        panels = [
            add_title(image.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy(), title)
            for image, title in zip(images, COLUMNS, strict=True)
        ]
        rows.append(np.concatenate(panels, axis=1))
    return np.concatenate(rows)
