"""How zoom calls detectron2's detectors, whose mapper would have resized the images before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes as Detectron2Boxes
from detectron2.structures import Instances
from torch import Tensor, nn

from dynbackbones.errors import UserError
from dynbackbones.integrations.recorded_features import with_recorded_backbone
from dynbackbones.zoom.adapters import Call, Features
from dynbackbones.zoom.boxes import Boxes


def detector(model: nn.Module) -> Detectron2Detector:
    """The adapter for a detector.

    Raises:
        UserError: it finds masks or keypoints, or is no detector.
    """
    if not isinstance(model, (GeneralizedRCNN, DenseDetector)):
        raise UserError(
            f"zoom wraps detectron2's GeneralizedRCNN and its dense detectors, such as RetinaNet, "
            f"not {type(model).__name__}"
        )
    heads = getattr(model, "roi_heads", None)
    if getattr(heads, "mask_on", False) or getattr(heads, "keypoint_on", False):
        raise UserError(
            "zoom merges boxes, and this detector finds masks or keypoints too; set MODEL.MASK_ON "
            "and MODEL.KEYPOINT_ON False"
        )
    return Detectron2Detector(model)


class Detectron2Detector:
    """Calls a detector with images as they are; see `DetectorAdapter`.

    Args:
        model: the detector. A shallow copy of it is called, whose backbone is recorded.
    """

    first_label = 0

    def __init__(self, model: nn.Module) -> None:
        self._model = with_recorded_backbone(model)
        predictor = getattr(getattr(model, "roi_heads", None), "box_predictor", None)
        predictors = list(predictor) if isinstance(predictor, nn.ModuleList) else [predictor]
        settings = predictors[-1] or model
        self.num_classes = int(model.roi_heads.num_classes if predictor else model.num_classes)
        self.nms = float(settings.test_nms_thresh)
        self.most = int(
            settings.test_topk_per_image if predictor else model.max_detections_per_image
        )

    def read(self, inputs: Sequence[Mapping[str, Any]]) -> Call:
        """detectron2's dicts with an ``"image"`` (C, H, W), which has the file's resolution.

        Raises:
            UserError: it has a smaller one.
        """
        for entry in inputs:
            height, width = entry["image"].shape[-2:]
            if entry.get("height", 0) > height or entry.get("width", 0) > width:
                raise UserError(
                    f"the loader made {height}x{width} of an image of {entry['height']}x"
                    f"{entry['width']} pixels, so that there is nothing to look at closely; set "
                    "INPUT.MIN_SIZE_TEST 0 (MODEL.ZOOM does), or give the mapper no resize"
                )
        return Call([entry["image"] for entry in inputs], inputs)

    def prepared(self, image: Tensor) -> Tensor:
        return image.to(self._model.device)

    def example(self) -> Tensor:
        return torch.zeros(3, 1, 1, dtype=torch.uint8, device=self._model.device)

    def detect(self, images: Sequence[Tensor]) -> tuple[list[Boxes], Features]:
        outputs = self._model([{"image": image} for image in images])
        found = [output["instances"] for output in outputs]
        boxes = [Boxes(f.pred_boxes.tensor, f.scores, f.pred_classes) for f in found]
        return boxes, self._model.backbone.take()

    def write(self, call: Call, results: Sequence[Boxes]) -> list[dict[str, Instances]]:
        outputs = []
        for entry, found in zip(call.inputs, results, strict=True):
            size = tuple(entry["image"].shape[-2:])
            instances = Instances(size)
            instances.pred_boxes = Detectron2Boxes(found.boxes)
            instances.scores = found.scores
            instances.pred_classes = found.labels
            wanted = entry.get("height", size[0]), entry.get("width", size[1])
            outputs.append({"instances": detector_postprocess(instances, *wanted)})
        return outputs
