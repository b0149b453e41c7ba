"""How zoom calls torchvision's detectors, whose own transform would resize what it shows them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.roi_heads import RoIHeads

from dynbackbones.backbones.base import find_backbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.recorded_features import with_recorded_backbone
from dynbackbones.integrations.torchvision.detectors import BatchTransform
from dynbackbones.integrations.transformed import PassTransformed
from dynbackbones.zoom.adapters import Call, Features
from dynbackbones.zoom.boxes import Boxes


def detector(model: nn.Module) -> TorchvisionDetector:
    """The adapter for a detector.

    Raises:
        UserError: it finds masks or keypoints, or takes images of one size only.
    """
    name = type(model).__name__
    if isinstance(model, (MaskRCNN, KeypointRCNN)):
        raise UserError(f"zoom merges boxes, and {name} finds more than these; give a box detector")
    if not isinstance(model, (RetinaNet, FasterRCNN, FCOS)):
        raise UserError(
            f"zoom shows a detector images of several sizes, which torchvision's {name} does not "
            "take; give a RetinaNet, a Faster R-CNN or an FCOS"
        )
    return TorchvisionDetector(model)


class TorchvisionDetector:
    """Calls a detector with images as they are; see `DetectorAdapter`.

    Args:
        model: the detector. A shallow copy of it is called, which has its layers and hooks but
            another transform.
    """

    first_label = 1

    def __init__(self, model: RetinaNet | FasterRCNN | FCOS) -> None:
        self._model = with_recorded_backbone(model)
        own = model.transform
        # This package's engine normalises pixels of 0 to 255.
        self._takes_bytes = max(own.image_mean) > 1
        transform = BatchTransform(own.image_mean, own.image_std, own.size_divisible)
        if find_backbones(model.backbone):
            transform.register_forward_hook(PassTransformed(model.backbone))
        self._model.transform = transform.eval()
        self.num_classes = _num_classes(model)
        heads = model.roi_heads if isinstance(model, FasterRCNN) else model
        self.nms = float(heads.nms_thresh)
        self.most = int(heads.detections_per_img)

    def read(self, images: Sequence[Tensor], targets: object = None) -> Call:
        """A list of (3, H, W) images, in evaluation without targets or with ones it ignores."""
        return Call(list(images))

    def prepared(self, image: Tensor) -> Tensor:
        if not (image.is_floating_point() or self._takes_bytes):
            raise UserError(
                f"images must be of a floating type, in [0, 1], as the detector takes them, got "
                f"{image.dtype}; divide pixels by 255"
            )
        return image.to(self._parameter.device, torch.float32)

    def example(self) -> Tensor:
        return torch.zeros(3, 1, 1, device=self._parameter.device)

    def detect(self, images: Sequence[Tensor]) -> tuple[list[Boxes], Features]:
        found = self._model(list(images))
        boxes = [Boxes(f["boxes"], f["scores"], f["labels"]) for f in found]
        return boxes, self._model.backbone.take()

    def write(self, call: Call, results: Sequence[Boxes]) -> list[dict[str, Tensor]]:
        return [{"boxes": r.boxes, "labels": r.labels, "scores": r.scores} for r in results]

    @property
    def _parameter(self) -> Tensor:
        return next(self._model.parameters())


def _num_classes(model: nn.Module) -> int:
    if isinstance(model, FasterRCNN):
        heads: RoIHeads = model.roi_heads
        return heads.box_predictor.cls_score.out_features - 1
    return model.head.classification_head.num_classes - 1
