"""A torchvision detector as mmengine trains and evaluates it."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from dynbackbones.analysis.costs import DecisionMeter
from dynbackbones.backbones.base import find_backbones
from dynbackbones.zoom.detector import ZoomDetector


class DetectorModel(BaseModel):
    """Losses and predictions of a detector, on batches of `data.collate`.

    Args:
        detector: of `build_detector`.
        zoom: around it, if evaluations zoom.
    """

    def __init__(self, detector: nn.Module, zoom: ZoomDetector | None = None) -> None:
        super().__init__()
        self.detector = detector
        # In a list: its weights are the detector's, and shall not be saved twice.
        self._zoom = [zoom]

    def init_weights(self) -> None:
        """Nothing: the detector comes initialised, perhaps with trained weights."""

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Any]], mode: str = "loss"
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Runs the detector.

        Args:
            images: (3, H, W) uint8 each.
            targets: of `CocoDetection`.
            mode: ``"loss"`` or ``"predict"``.

        Returns:
            For ``"loss"`` the dict of losses. For ``"predict"`` for each image ``image_id``,
            ``boxes`` (n, 4) in pixels of the original image, ``scores``, ``labels`` from 0, and
            ``backbone``: a `DecisionMeter` of what the backbone, or the zoom, chose and spent.

        Raises:
            ValueError: another mode.
        """
        if mode == "loss":
            named = [{key: target[key] for key in ("boxes", "labels")} for target in targets]
            losses = self.detector([image.float() for image in images], named)
            return {_loss_name(name): value for name, value in losses.items()}
        if mode == "predict":
            return self._predict(images, targets)
        raise ValueError(f"mode must be 'loss' or 'predict', got {mode!r}")

    def _predict(self, images: list[Tensor], targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (zoom,) = self._zoom
        sizes = [target["original_size"] for target in targets]
        if zoom is None:
            detections = predict(self.detector, images, sizes)
            (backbone,) = find_backbones(self.detector)
            meters = DecisionMeter.of_images(backbone.decisions)
        else:
            detections = predict_zoomed(zoom, images)
            meters = DecisionMeter.of_images(zoom.decisions)
        return [
            {
                **detection,
                "image_id": target["image_id"],
                "backbone": meter,
            }
            for detection, target, meter in zip(detections, targets, meters, strict=True)
        ]


@torch.no_grad()
def predict(
    detector: nn.Module, images: list[Tensor], original_sizes: list[tuple[int, int]]
) -> list[dict[str, Tensor]]:
    """Detections in pixels of the original images.

    Args:
        detector: in eval mode.
        images: (3, H, W) uint8 each, resized.
        original_sizes: (height, width) of each before it was resized.

    Returns:
        For each image ``boxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,) from 0.
    """
    detections = detector([image.float() for image in images])
    results = []
    for image, found, (height, width) in zip(images, detections, original_sizes, strict=True):
        scale = found["boxes"].new_tensor([width / image.shape[2], height / image.shape[1]] * 2)
        results.append(
            {
                "boxes": found["boxes"] * scale,
                "scores": found["scores"],
                "labels": found["labels"] - 1,
            }
        )
    return results


def predict_zoomed(zoom: ZoomDetector, images: list[Tensor]) -> list[dict[str, Tensor]]:
    """The same as `predict` of a detector that looks closer, at images that nobody resized."""
    return [
        {"boxes": found.boxes, "scores": found.scores, "labels": found.labels - 1}
        for found in zoom.run(images)
    ]


def _loss_name(name: str) -> str:
    # mmengine adds up the entries with "loss" in their name; RetinaNet's have none.
    return name if "loss" in name else f"loss_{name}"
