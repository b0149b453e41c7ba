"""An exported detector held against the one in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from fvcore.common.config import CfgNode
from onnxruntime import InferenceSession
from torch import Tensor
from torch.nn import functional as F

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.errors import UserError
from dynbackbones.export import running

TOLERANCE = 0.02
"""Largest difference of a score, and of a box relative to the image, at which two are the same.

Resizing may round a grey level otherwise."""

_ALIKE = 0.9
_COMPARED = 20


class Detector(Protocol):
    """A detector of any engine, on the CPU."""

    def predict(self, image: np.ndarray) -> Prediction:
        """Detects objects in an RGB image, (H, W, 3) of uint8."""


def largest_difference(
    detector: Detector,
    set_bound: Callable[[float], None],
    cfg: CfgNode,
    file: InferenceSession,
) -> float:
    """How far a file's boxes and scores are from a detector's, over a few random images.

    Args:
        detector: that was exported.
        set_bound: moves its score threshold.
        cfg: of the detector.
        file: what was exported.

    Raises:
        UserError: the detector finds nothing at any score.
        RuntimeError: the file finds something else.
    """
    differences, alike = [], []
    for image in _images(cfg.INPUT.MIN_SIZE_TEST or 128):
        bound = _lowered(detector, set_bound, image)
        wanted = detector.predict(image)
        found = detect(file, image, cfg.INPUT.FORMAT, bound)
        nearest = distances(found, wanted, image.shape[:2])
        same = nearest <= TOLERANCE
        alike.append(same.sum() / max(len(wanted.scores), len(found.scores), 1))
        differences += nearest[same].tolist()
    share = float(torch.stack(alike).min())
    if share < _ALIKE:
        raise RuntimeError(
            f"the exported file finds what the detector does for {share:.0%} of the boxes only; "
            "nothing is written"
        )
    return max(differences, default=0.0)


def detect(
    file: InferenceSession, image: np.ndarray, channels: str, bound: float | None = None
) -> Prediction:
    """What an exported detector finds in an image.

    Args:
        file: of a detector.
        image: (H, W, 3) uint8, RGB.
        channels: the order that the file wants, ``"RGB"`` or ``"BGR"``.
        bound: score from which a box counts; None for the file's own.
    """
    ordered = image[:, :, ::-1] if channels == "BGR" else image
    inputs = {"image": torch.from_numpy(np.ascontiguousarray(ordered.transpose(2, 0, 1)))}
    if bound is not None:
        inputs["score_threshold"] = torch.tensor([bound])
    found = running.run(file, inputs)
    size = image.shape[0], image.shape[1]
    return Prediction(found["boxes"], found["scores"], found["labels"], size)


def distances(found: Prediction, wanted: Prediction, size: tuple[int, int]) -> Tensor:
    """For each box that was wanted, how far the nearest one of its class is.

    Args:
        found, wanted: of one image.
        size: (height, width) of it.

    Returns:
        (n,) the larger of the differences of the score and of the box relative to the image.
    """
    if not len(found.scores):
        return torch.full((len(wanted.scores),), torch.inf)
    boxes = (wanted.boxes[:, None] - found.boxes).abs().amax(dim=2) / max(size)
    scores = (wanted.scores[:, None] - found.scores).abs()
    other = wanted.labels[:, None] != found.labels
    return torch.maximum(boxes, scores).masked_fill(other, torch.inf).amin(dim=1)


def _images(short: int) -> Iterator[np.ndarray]:
    """Smooth random images, one of the size that the detector works at, so without resizing."""
    generator = torch.Generator().manual_seed(0)
    for height, width in ((short, short), (short, 2 * short // 3), (96, 160)):
        coarse = torch.rand(1, 3, 6, 6, generator=generator)
        image = F.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)
        yield (255 * image).byte().permute(1, 2, 0).numpy()


def _lowered(
    detector: Detector, set_bound: Callable[[float], None], image: np.ndarray
) -> float:
    """Lowers the score threshold so that a few boxes are found; returns it."""
    set_bound(0.0)
    scores = detector.predict(image).scores
    if not len(scores):
        raise UserError("the detector finds nothing at any score: its weights may hold NaN")
    # Between two scores, so that none lies on the threshold.
    low = scores[min(_COMPARED, len(scores) - 1)]
    bound = float((scores[min(_COMPARED, len(scores)) - 1] + low) / 2)
    set_bound(bound)
    return bound
