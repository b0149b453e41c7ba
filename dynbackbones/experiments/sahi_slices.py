"""A detector in the slices of the library sahi, which looks at every part of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynbackbones.errors import UserError
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.detector import ZoomDetector

try:
    from sahi.models.base import DetectionModel
    from sahi.predict import get_sliced_prediction
    from sahi.prediction import ObjectPrediction
    from sahi.slicing import get_slice_bboxes
    from sahi.utils.compatibility import fix_full_shape_list, fix_shift_amount_list
except ImportError as error:
    raise UserError(f"the row of sahi needs it ({error}): pip install sahi") from error

_OVERLAP = 0.2
_MIN_SCORE = 0.05


class SahiSlices:
    """Slices as large as zoom's crops that overlap by a fifth, and one reduced pass.

    Doubles are merged as sahi does it by default, which for scores as low as average precision
    wants them is NMS at an intersection over union of 0.5.

    Args:
        zoom: of the detector; a slice is as large as one of its crops, and the pass over the whole
            image is its coarse one.
    """

    def __init__(self, zoom: ZoomDetector) -> None:
        self.edge = zoom.patch + 2 * zoom.halo
        self._zoom = zoom
        self._model = _Model(zoom, self.edge)

    def detect(self, image: Tensor) -> Boxes:
        """Detections in a (C, H, W) uint8 image, as the detector takes it."""
        result = get_sliced_prediction(
            np.ascontiguousarray(image.permute(1, 2, 0).numpy()),
            self._model,
            slice_height=self.edge,
            slice_width=self.edge,
            overlap_height_ratio=_OVERLAP,
            overlap_width_ratio=_OVERLAP,
            verbose=0,
        )
        found = result.object_prediction_list
        boxes = torch.tensor([p.bbox.to_xyxy() for p in found], dtype=torch.float32)
        scores = torch.tensor([p.score.value for p in found], dtype=torch.float32)
        labels = torch.tensor([p.category.id for p in found], dtype=torch.int64)
        order = scores.argsort(descending=True)[: self._zoom.rules.most]
        return Boxes(boxes.reshape(-1, 4), scores, labels)[order]

    def costs(self, size: tuple[int, int]) -> tuple[float, float]:
        """GMACs of an image, and pixels that the detector sees for each of the image."""
        slices = get_slice_bboxes(
            *size,
            slice_height=self.edge,
            slice_width=self.edge,
            overlap_height_ratio=_OVERLAP,
            overlap_width_ratio=_OVERLAP,
        )
        macs = self._zoom.macs(*size, 0.0)
        macs += sum(self._zoom.full_macs(y2 - y1, x2 - x1) for x1, y1, x2, y2 in slices)
        pixels = sum((y2 - y1) * (x2 - x1) for x1, y1, x2, y2 in slices)
        return macs / 1e9, pixels / (size[0] * size[1]) + 1 / self._zoom.scale**2


class _Model(DetectionModel):
    """The detector as sahi asks for it."""

    def __init__(self, zoom: ZoomDetector, edge: int) -> None:
        self._zoom, self._edge = zoom, edge
        super().__init__(model=zoom, confidence_threshold=_MIN_SCORE, device="cpu")

    def set_model(self, model: Any, **_: Any) -> None:
        self.model = model

    def perform_inference(self, image: np.ndarray) -> None:
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if max(image.shape[:2]) > self._edge:
            self._original_predictions = self._zoom.looks(tensor)[0].boxes
        else:
            self._original_predictions = self._zoom.whole(tensor)

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        (shift,) = fix_shift_amount_list(shift_amount_list or [[0, 0]])
        shapes = fix_full_shape_list(full_shape_list)
        shape = shapes[0] if shapes else None
        found = self._original_predictions.cpu()
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(
                    bbox=box.tolist(),
                    category_id=int(label),
                    category_name=str(int(label)),
                    score=float(score),
                    shift_amount=shift,
                    full_shape=shape,
                )
                for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
                if score >= self.confidence_threshold and (box[2:] > box[:2]).all()
            ]
        ]
