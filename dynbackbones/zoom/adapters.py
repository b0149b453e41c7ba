"""How zoom calls a model: pixels in, the framework's own results out."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from dynbackbones.errors import UserError
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.images import ImageSource
from dynbackbones.zoom.merge_maps import ClassMap, LogitRules

# By the package that a model's class comes from; each has a function named after the kind. Named
# and not imported: a framework's adapter needs the framework.
_MODULES = {
    "detector": {
        "torchvision": "dynbackbones.integrations.torchvision.zoom",
        "detectron2": "dynbackbones.integrations.detectron2.zoom",
    },
    "segmentor": {
        "mmseg": "dynbackbones.integrations.openmmlab.zoom_segmentor",
    },
}


class Features(NamedTuple):
    """Maps of a model: (N, C, h, w), and pixels of its input for each of theirs."""

    maps: Tensor
    stride: float


@dataclass(frozen=True)
class Call:
    """What a wrapped model was called with.

    Attributes:
        images: of full resolution.
        inputs: the arguments, which the results are written for.
    """

    images: Sequence[Tensor | ImageSource]
    inputs: Any = None


class DetectorAdapter(Protocol):
    """What `ZoomDetector` asks of a detector.

    Attributes:
        num_classes: background not counted.
        first_label: of the labels of what it finds.
        nms: intersection over union above which it drops one of two boxes.
        most: detections that it gives for an image.
    """

    num_classes: int
    first_label: int
    nms: float
    most: int

    def read(self, *args: Any, **kwargs: Any) -> Call:
        """The images in the arguments of the wrapped model."""

    def prepared(self, image: Tensor) -> Tensor:
        """A part of an image on the model's device, in the type that `detect` takes."""

    def example(self) -> Tensor:
        """(C, 1, 1), of the type and device of prepared images."""

    def detect(self, images: Sequence[Tensor]) -> tuple[list[Boxes], Features | None]:
        """Detections in pixels of prepared images, which nothing may resize."""

    def write(self, call: Call, results: Sequence[Boxes]) -> Any:
        """Detections in pixels of the images as the model's own result."""


class Segmented(NamedTuple):
    """What a segmentor says of an image.

    Attributes:
        logits: (C, h, w) in the image's own size.
        features: (C, h', w') a map of the model, without padding; None where it gives none.
        stride: pixels of the image for each of the map.
    """

    logits: Tensor
    features: Tensor | None = None
    stride: float = 1.0


class SegmentorAdapter(Protocol):
    """What `ZoomSegmentor` asks of a segmentor.

    Attributes:
        num_classes: those whose probabilities add up to 1, so 2 of a model with one channel.
        rules: what its logits mean.
    """

    num_classes: int
    rules: LogitRules

    def batch(self, data: Any) -> tuple[tuple, dict[str, Any]]:
        """Arguments of a call of the wrapped model, from what a data loader gives."""

    def read(self, *args: Any, **kwargs: Any) -> Call:
        """The images in the arguments of the wrapped model."""

    def prepared(self, image: Tensor) -> Tensor:
        """A part of an image on the model's device, in the type that `segment` takes."""

    def example(self) -> Tensor:
        """(C, 1, 1), of the type and device of prepared images."""

    def segment(self, images: Sequence[Tensor]) -> list[Segmented]:
        """Maps of prepared images, which nothing may resize; those of one size in one batch."""

    def write(self, call: Call, results: Sequence[ClassMap]) -> Any:
        """Maps of the images as the model's own result."""


def adapter_of(model: nn.Module, kind: str) -> Any:
    """The adapter for a model of a framework that is known.

    Args:
        model: a detector or a segmentor.
        kind: ``"detector"`` or ``"segmentor"``.

    Raises:
        UserError: its framework is not known, or zoom cannot serve it.
    """
    modules = _MODULES[kind]
    for base in type(model).__mro__:
        package = base.__module__.partition(".")[0]
        if package in modules:
            return getattr(importlib.import_module(modules[package]), kind)(model)
    raise UserError(
        f"zoom knows no {kind} of the type {type(model).__module__}.{type(model).__name__}: give a "
        f"model of {', '.join(modules)}, or an adapter=... of your own"
    )
