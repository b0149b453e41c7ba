"""A trained detectron2 detector on one image."""

import os

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms
from detectron2.modeling import build_model

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.backbones.base import find_backbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.detectron2.attach import attach
from dynbackbones.integrations.detectron2.checkpointer import CheckedCheckpointer
from dynbackbones.integrations.zoom import build_zoom
from dynbackbones.training.run_folder import FINAL_WEIGHTS


class Predictor:
    """Runs a detector on single images, resized as in evaluation.

    Args:
        cfg: a config as `setup` returns it; ``MODEL.WEIGHTS`` names the trained detector.

    Attributes:
        model: the detector, in evaluation mode.

    Raises:
        UserError: there are no weights, or they are of another architecture.
    """

    def __init__(self, cfg: CfgNode) -> None:
        if not cfg.MODEL.WEIGHTS:
            last = os.path.join(cfg.OUTPUT_DIR, FINAL_WEIGHTS)
            raise UserError(f"MODEL.WEIGHTS is empty; name a trained model, such as {last}")
        self.model = build_model(cfg).eval()
        if find_backbones(self.model):  # the plain baselines are detectron2's own
            attach(self.model)
        CheckedCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        self._zoom = None
        if cfg.MODEL.ZOOM.ENABLED:
            self._zoom = build_zoom(cfg, self.model).to(self.model.device)
        self._resize = transforms.ResizeShortestEdge(
            [cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST
        )
        self._channels = slice(None, None, -1 if cfg.INPUT.FORMAT == "BGR" else 1)

    def predict(self, image: np.ndarray) -> Prediction:
        """Detects objects in an RGB image, (H, W, 3) of uint8."""
        height, width = image.shape[:2]
        image = image[:, :, self._channels]
        resized = self._resize.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        entry = {"image": tensor, "height": height, "width": width}
        with torch.no_grad():
            outputs = (self._zoom or self.model)([entry])
        instances = outputs[0]["instances"].to("cpu")
        deciding = [self._zoom] if self._zoom else find_backbones(self.model)
        return Prediction(
            boxes=instances.pred_boxes.tensor,
            scores=instances.scores,
            labels=instances.pred_classes,
            input_size=tuple(resized.shape[:2]),
            decisions=deciding[0].decisions if deciding else None,
        )
