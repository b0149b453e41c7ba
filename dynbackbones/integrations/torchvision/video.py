"""How a stream calls torchvision's detectors and segmentors."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.segmentation._utils import _SimpleSegmentationModel
from torchvision.transforms.functional import normalize, to_tensor

from dynbackbones.errors import UserError
from dynbackbones.video.adapters import CountsMacs, check_plain, unzoomed
from dynbackbones.video.cuts import Cut
from dynbackbones.video.propagation import Instances, Kept, Maps

# Of the weights that torchvision has.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DETECTORS = ("torchvision.models.detection",)
_MOVED = ("boxes", "scores", "labels", "masks", "keypoints")


def adapter(model: nn.Module) -> DetectorAdapter | SegmentorAdapter:
    """The adapter for a detector or a segmentor of torchvision, or a zoom around a detector.

    Raises:
        UserError: it is none of them.
    """
    if isinstance(model, _SimpleSegmentationModel):
        return SegmentorAdapter(model)
    inner = unzoomed(model)
    own = any(base.__module__.startswith(_DETECTORS) for base in type(inner).__mro__)
    if isinstance(inner, GeneralizedRCNN) or own:
        return DetectorAdapter(model)
    raise UserError(
        f"a stream serves torchvision's detectors and segmentors, not {type(model).__name__}; wrap "
        "it in a function of an (H, W, 3) uint8 RGB image that returns (C, H, W) maps"
    )


class DetectorAdapter(CountsMacs):
    """Calls a detector with a list of one (3, H, W) image in [0, 1], as torchvision does.

    Args:
        model: put into evaluation mode; a zoom is called as the detector that it wraps.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model.eval()

    def run(self, image: np.ndarray) -> tuple[list[dict[str, Tensor]], Kept]:
        result = self._model([to_tensor(image).to(_device(self._model))])
        found = {name: values.clone() for name, values in result[0].items()}
        own = {name: found[name] for name in _MOVED if name in found}
        if "masks" in own:
            own["masks"] = own["masks"][:, 0]
        return result, Instances(**own, context=found)

    def cut(self) -> Cut:
        check_plain(self._model)
        return Cut(self._model, quiet=("transform",))

    def around(self, model: nn.Module) -> DetectorAdapter:
        return DetectorAdapter(model)

    def prepared(self, image: np.ndarray, result: Any) -> tuple[int, int]:
        return self._model.transform.resize(to_tensor(image))[0].shape[-2:]

    def result(self, kept: Instances) -> list[dict[str, Tensor]]:
        found: dict[str, Any] = {}
        for name, values in kept.context.items():
            moved = getattr(kept, name) if name in _MOVED else kept.of(values)
            found[name] = moved.clone().view(-1, *values.shape[1:])
        return [found]


class SegmentorAdapter(CountsMacs):
    """Calls a segmentor with a frame of its own size, normalised as for torchvision's weights.

    Args:
        model: put into evaluation mode.
    """

    def __init__(self, model: _SimpleSegmentationModel) -> None:
        super().__init__()
        self._model = model.eval()

    def run(self, image: np.ndarray) -> tuple[OrderedDict, Kept]:
        pixels = normalize(to_tensor(image), _MEAN, _STD)[None].to(_device(self._model))
        result = self._model(pixels)
        return result, Maps(result["out"][0].clone())

    def cut(self) -> Cut:
        return Cut(self._model)

    def around(self, model: nn.Module) -> SegmentorAdapter:
        return SegmentorAdapter(model)

    def prepared(self, image: np.ndarray, result: Any) -> tuple[int, int]:
        return image.shape[:2]

    def result(self, kept: Maps) -> OrderedDict:
        return OrderedDict(out=kept.values[None].clone())


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
