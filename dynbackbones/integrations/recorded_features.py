"""A backbone that keeps the finest map of its last pass."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dynbackbones.zoom.adapters import Features


class RecordedFeatures(nn.Module):
    """Stands in the place of a detector's backbone, without any weights of its own.

    Args:
        backbone: from images to a dict of maps.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self._mine = LastFeatures()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # What a detector asks its backbone for, such as `size_divisibility`.
            return getattr(super().__getattr__("backbone"), name)

    def forward(self, images: Tensor) -> Mapping[str, Tensor] | Tensor:
        features = self.backbone(images)
        maps = features.values() if isinstance(features, Mapping) else [features]
        finest = max(maps, key=lambda m: m.shape[-1])
        self._mine.features = Features(finest, images.shape[-1] / finest.shape[-1])
        return features

    def take(self) -> Features | None:
        """What this thread's last pass left, once."""
        return self._mine.take()


def with_recorded_backbone(model: nn.Module) -> nn.Module:
    """A shallow copy of a detector in evaluation: its layers and hooks, `RecordedFeatures` inside.

    Args:
        model: that has a ``backbone``; it stays as it is.
    """
    other = copy.copy(model)
    other._modules = dict(model._modules)
    other.backbone = RecordedFeatures(model.backbone)
    other.training = False
    return other


class LastFeatures(threading.local):
    """A place of each thread's own; a copy starts empty."""

    features: Features | None = None

    def take(self) -> Features | None:
        """What is there, once."""
        features, self.features = self.features, None
        return features

    def __deepcopy__(self, memo: dict) -> LastFeatures:
        return LastFeatures()

    def __reduce__(self) -> tuple:
        return LastFeatures, ()
