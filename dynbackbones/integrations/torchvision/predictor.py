"""A trained detector of the torchvision engine on one image."""

from __future__ import annotations

import numpy as np
import torch
from fvcore.common.config import CfgNode
from PIL import Image
from torch import nn

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.backbones.base import find_backbones
from dynbackbones.integrations.torchvision.data import resized, to_tensor
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.torchvision.model import predict, predict_zoomed
from dynbackbones.integrations.torchvision.weights import load_weights, weights_path
from dynbackbones.integrations.zoom import build_zoom


class Predictor:
    """Resizes an image as in evaluation, detects, and gives boxes in the image's own pixels.

    Args:
        cfg: of `load_config`.
        model: a detector of `build_detector`; put into eval mode.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        self.cfg = cfg
        self.model = model.eval()
        self._zoom = None
        if cfg.MODEL.ZOOM.ENABLED:
            device = next(self.model.parameters()).device
            self._zoom = build_zoom(cfg, self.model).to(device)

    def predict(self, image: np.ndarray) -> Prediction:
        """Detects objects in one image.

        Args:
            image: (H, W, 3) uint8, RGB.

        Raises:
            ValueError: another shape or type.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image must be (H, W, 3) uint8, RGB, got {image.shape} {image.dtype}")
        original = (image.shape[0], image.shape[1])
        size = resized(original, self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST)
        tensor = to_tensor(Image.fromarray(image), size, self.cfg.INPUT.FORMAT)
        if self._zoom is not None:
            (found,) = predict_zoomed(self._zoom, [tensor])
            decisions = self._zoom.decisions
            return Prediction(found["boxes"], found["scores"], found["labels"], size, decisions)
        device = next(self.model.parameters()).device
        (found,) = predict(self.model, [tensor.to(device)], [original])
        # None where a stream has the heads alone run.
        deciding = find_backbones(self.model)
        decisions = deciding[0].decisions if deciding else None
        return Prediction(found["boxes"], found["scores"], found["labels"], size, decisions)


def load_predictor(cfg: CfgNode) -> Predictor:
    """The detector of a config with ``MODEL.WEIGHTS``, or with its run's final weights.

    Args:
        cfg: of `load_config`.

    Raises:
        UserError: there are no weights, or they are of another architecture.
    """
    path = weights_path(cfg)
    model = build_detector(cfg)
    load_weights(model, path, whole=True)
    cuda = cfg.MODEL.DEVICE != "cpu" and torch.cuda.is_available()
    return Predictor(cfg, model.to("cuda" if cuda else "cpu"))
