"""How a stream calls detectron2's predictors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from dynbackbones.errors import UserError
from dynbackbones.video.adapters import CountsMacs, check_plain
from dynbackbones.video.cuts import Cut
from dynbackbones.video.propagation import Instances as Moved
from dynbackbones.video.propagation import Kept, Maps, Opaque

_BOXES, _MASKS, _KEYPOINTS = "pred_boxes", "pred_masks", "pred_keypoints"


def adapter(predictor: Any) -> PredictorAdapter:
    """The adapter for a `DefaultPredictor`.

    Raises:
        UserError: it is something else of detectron2's.
    """
    if not isinstance(predictor, DefaultPredictor):
        raise UserError(
            f"a stream runs detectron2's DefaultPredictor(cfg), which resizes frames as the config "
            f"says, not a {type(predictor).__name__}; build one from the config and MODEL.WEIGHTS "
            "(a zoom stands in the place of its model: predictor.model = zoom)"
        )
    return PredictorAdapter(predictor)


class PredictorAdapter(CountsMacs):
    """Calls a predictor with BGR pixels, which it turns itself where its model wants RGB.

    Args:
        predictor: of a detector, or of a semantic segmentor.
    """

    def __init__(self, predictor: DefaultPredictor) -> None:
        super().__init__()
        self._predictor = predictor

    def run(self, image: np.ndarray) -> tuple[dict[str, Any], Kept]:
        result = self._predictor(np.ascontiguousarray(image[:, :, ::-1]))
        if "instances" in result and set(result) <= {"instances", "proposals"}:
            return result, _kept(result["instances"])
        if set(result) == {"sem_seg"}:
            return result, Maps(result["sem_seg"].clone())
        return result, Opaque(result)

    def cut(self) -> Cut:
        check_plain(self._predictor.model)
        return Cut(self._predictor.model)

    def around(self, model: nn.Module) -> PredictorAdapter:
        predictor = copy.copy(self._predictor)
        predictor.model = model
        return PredictorAdapter(predictor)

    def prepared(self, image: np.ndarray, result: Any) -> tuple[int, int]:
        return self._predictor.aug.get_transform(image).apply_image(image).shape[:2]

    def result(self, kept: Kept) -> dict[str, Any]:
        if isinstance(kept, Maps):
            return {"sem_seg": kept.values.clone()}
        if isinstance(kept, Opaque):
            return kept.result
        own = {_BOXES: Boxes(kept.boxes.clone()), _MASKS: kept.masks, _KEYPOINTS: kept.keypoints}
        size, fields = kept.context
        found = Instances(size)
        for name, values in fields.items():
            moved = own[name] if name in own else kept.of(values)
            found.set(name, moved.clone())
        return {"instances": found}


def _kept(found: Instances) -> Moved:
    fields = {
        name: values.clone() if isinstance(values, (Tensor, Boxes)) else values
        for name, values in found.get_fields().items()
    }
    return Moved(
        fields[_BOXES].tensor,
        fields["scores"],
        fields["pred_classes"],
        fields.get(_MASKS),
        fields.get(_KEYPOINTS),
        context=(found.image_size, fields),
    )
