"""Features as what moves: between key frames a model's heads run on those of an earlier frame.

Deep Feature Flow (Zhu et al., CVPR 2017), with a flow that needs no training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynbackbones.errors import UserError
from dynbackbones.video.adapters import Adapter, CountsMacs
from dynbackbones.video.cuts import Cut, Recording
from dynbackbones.video.flow import warp
from dynbackbones.video.pairs import Pair
from dynbackbones.video.propagation import Kept
from dynbackbones.zoom.costs import Costs


class Divisible(Adapter, Protocol):
    """What is asked of an adapter besides, so that features of its model can move."""

    def cut(self) -> Cut:
        """Where the model falls into what sees the image, and heads.

        Raises:
            UserError: nowhere.
        """

    def around(self, model: nn.Module) -> Adapter:
        """The same way to call another model."""

    def prepared(self, image: np.ndarray, result: Any) -> tuple[int, int]:
        """(height, width) of an image in what the model's first part sees, less padding."""


@dataclass(frozen=True)
class Features:
    """What the heads of a model read.

    Attributes:
        values: (1, C, h, w) float, or dicts, lists or tuples of these.
        inside: shares of their rows and columns that show the frame; the others are padding.
        image: (H, W, 3) uint8, the frame that the heads are asked about.
        own: the frame's result, where the model ran on it.
    """

    values: Any
    inside: tuple[float, float]
    image: np.ndarray
    own: Kept | None = None

    def moved(self, pair: Pair) -> Features:
        """Each place takes the features from where it was in the key."""
        values = _mapped(self.values, lambda level: _moved(level, pair.to_key, self.inside))
        return replace(self, values=values, image=pair.frame.image, own=None)

    def finite(self) -> bool:
        levels: list[bool] = []
        _mapped(self.values, lambda level: levels.append(bool(level.isfinite().all())))
        return all(levels) and (self.own is None or self.own.finite())


class FeatureAdapter(CountsMacs):
    """Runs a model on key frames, and its heads alone on others.

    Args:
        adapter: how the model is called.

    Attributes:
        whole: the same.

    Raises:
        UserError: the model has no features that could be moved.
    """

    def __init__(self, adapter: Divisible) -> None:
        if not hasattr(adapter, "cut"):
            raise UserError(
                f"moves='features' needs a model whose backbone and heads are known, and a "
                f"{type(adapter).__name__} calls it as a whole: give a detector or segmentor of "
                "torchvision, mmseg or detectron2, or set moves='result'"
            )
        super().__init__()
        self.whole = adapter
        self._heads = Costs(self.result, self._kept_for)
        _cut(adapter)

    def run(self, image: np.ndarray) -> tuple[Any, Features]:
        cut = _cut(self.whole)
        model, parts = cut.recording()
        result, own = self.whole.around(model).run(image)
        _check_once(cut, parts)
        values = _mapped(parts[-1].output, lambda level: _checked(level, cut).clone())
        shown, whole = self.whole.prepared(image, result), parts[0].given
        inside = tuple(min(1.0, n / m) for n, m in zip(shown, whole, strict=True))
        return result, Features(values, inside, image.copy(), own)

    def _kept_for(self, noise: Tensor) -> Features:
        return self._run_for(noise)[1]

    def result(self, kept: Features) -> Any:
        return self._again(kept)[0]

    def shown(self, kept: Features) -> Kept:
        """The result in a form that can be compared with another one."""
        return kept.own or self._again(kept)[1]

    def moved_macs(self, size: tuple[int, int]) -> float | None:
        return self.counted(self._heads, size)

    def _again(self, kept: Features) -> tuple[Any, Kept]:
        # Heads may write into what they read.
        model = _cut(self.whole).recalling(_mapped(kept.values, torch.clone))
        return self.whole.around(model).run(kept.image)


def _cut(adapter: Divisible) -> Cut:
    cut = adapter.cut()
    for name in cut.names:
        if not isinstance(getattr(cut.model, name, None), nn.Module):
            raise UserError(
                f"moves='features': this {type(cut.model).__name__} has no module {name!r} whose "
                "features could be moved; set moves='result'"
            )
    return cut


def _check_once(cut: Cut, parts: list[Recording]) -> None:
    calls = max(part.calls for part in parts)
    if calls != 1:
        raise UserError(
            f"moves='features': this {type(cut.model).__name__} runs its {cut.names[-1]} {calls} "
            "times for a frame, as windows and zooms do, and features of one frame move; set "
            "moves='result'"
        )


def _checked(level: Any, cut: Cut) -> Tensor:
    """A map of features.

    Raises:
        UserError: it is something else.
    """
    if isinstance(level, Tensor) and level.dim() == 4 and level.is_floating_point():
        return level
    said = tuple(level.shape) if isinstance(level, Tensor) else type(level).__name__
    raise UserError(
        f"moves='features': the {cut.names[-1]} of this {type(cut.model).__name__} gives {said}, "
        "and (1, C, h, w) float maps can be moved; set moves='result'"
    )


def _mapped(values: Any, change: Callable[[Any], Any]) -> Any:
    """The same dicts, lists and tuples with each tensor changed."""
    if isinstance(values, Mapping):
        return type(values)((name, _mapped(value, change)) for name, value in values.items())
    if isinstance(values, (list, tuple)):
        return type(values)([_mapped(value, change) for value in values])
    return change(values)


def _moved(level: Tensor, flow: np.ndarray, inside: tuple[float, float]) -> Tensor:
    """A (1, C, h, w) map by the flow of a frame, which it shows in a part; the rest stays."""
    frame = flow.shape[:2]
    cells, beyond = [], []
    for length, share, pixels in zip(level.shape[-2:], inside, frame, strict=True):
        covered = length * share  # of the last cell perhaps a part
        cells.append(max(1, math.ceil(covered - 1e-6)))
        beyond.append(max(0, round(pixels * cells[-1] / covered) - pixels))
    whole = torch.as_tensor(flow).permute(2, 0, 1)[None]
    whole = F.pad(whole, (0, beyond[1], 0, beyond[0]), mode="replicate")[0].permute(1, 2, 0)
    moved = level.clone()
    rows, columns = cells
    # Most things move by parts of a cell, and bilinear means blur what the heads look for.
    shown = warp(level[0, :, :rows, :columns].float(), whole, "bicubic")
    moved[0, :, :rows, :columns] = shown.to(level)
    return moved
