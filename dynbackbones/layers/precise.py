"""Buffers that stay in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class PreciseBuffers(nn.Module):
    """A module some of whose buffers are float32 whatever type the rest is brought to.

    Thresholds that were calibrated lie close to one another: rounded to bfloat16, whose numbers
    near 1 are 0.004 apart, they choose something else.

    Attributes:
        precise: names of these buffers.
    """

    precise: tuple[str, ...] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> nn.Module:
        kept = {name: self._buffers[name] for name in self.precise}
        super()._apply(fn, *args, **kwargs)
        for name, value in kept.items():
            moved = self._buffers[name]
            if moved.dtype != value.dtype and value.dtype == torch.float32:
                self._buffers[name] = value.to(moved.device)
        return self
