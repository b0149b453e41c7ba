"""Multiply-accumulates of a model by the size of its input, and when zoom is worth its price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dynbackbones.backbones.base import remember
from dynbackbones.layers.packed import packed_formulas

Size = tuple[int, int]


class Costs:
    """Counts what a model computes for an image of a size, once for each size.

    Convolutions and matrix products count, whatever the model does around them. Where the work
    depends on what the model finds, as in the second stage of Faster R-CNN, it is counted for
    noise.

    Args:
        run: a pass of the model over a (C, height, width) tensor, or over what ``prepare`` makes
            of it.
        prepare: what comes before and does not count.
    """

    def __init__(
        self, run: Callable[[Any], object], prepare: Callable[[Tensor], Any] | None = None
    ) -> None:
        self._run, self._prepare = run, prepare
        self._known: dict[tuple, float] = {}

    @torch.no_grad()
    def macs(self, size: Size, like: Tensor) -> float:
        """Multiply-accumulates for one image.

        Args:
            size: (height, width).
            like: (C, H, W) of the type and device of the images.
        """
        return remember(self._known, (size, like.shape[0]), lambda _: self._count(size, like))

    def _count(self, size: Size, like: Tensor) -> float:
        noise = torch.rand(like.shape[0], *size, generator=torch.Generator().manual_seed(0))
        if not like.is_floating_point():
            noise = noise * 255
        noise = noise.to(like)
        given = noise if self._prepare is None else self._prepare(noise)
        with FlopCounterMode(display=False, custom_mapping=packed_formulas()) as counter:
            self._run(given)
        return counter.get_total_flops() / 2
