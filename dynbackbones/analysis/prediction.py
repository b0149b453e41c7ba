"""What a detector found in one image and what its backbone chose while looking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dynbackbones.backbones.decisions import Decisions


@dataclass(frozen=True)
class Prediction:
    """Detections of one image, the same for every engine.

    NumPy arrays and tensors of any device are accepted; they are kept as tensors on the CPU.

    Attributes:
        boxes: (n, 4) float, ``x1, y1, x2, y2`` in pixels of the original image.
        scores: (n,) float in [0, 1].
        labels: (n,) int64, contiguous class indices from 0.
        input_size: ``(height, width)`` of the image as the network saw it: resized, not padded.
        decisions: what the backbone chose in this forward, a batch of one; None where the
            detector's backbone records nothing.

    Raises:
        ValueError: boxes, scores and labels do not describe the same number of detections.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    input_size: tuple[int, int]
    decisions: Decisions | None = None

    def __post_init__(self) -> None:
        for name, dtype in (
            ("boxes", torch.float32),
            ("scores", torch.float32),
            ("labels", torch.int64),
        ):
            value = torch.as_tensor(getattr(self, name)).detach().to("cpu", dtype)
            object.__setattr__(self, name, value.reshape(-1, 4) if name == "boxes" else value)
        height, width = self.input_size
        object.__setattr__(self, "input_size", (int(height), int(width)))
        if not len(self.boxes) == len(self.scores) == len(self.labels):
            raise ValueError(
                f"boxes, scores and labels must have one entry per detection, got "
                f"{len(self.boxes)}, {len(self.scores)} and {len(self.labels)}"
            )

    def above(self, threshold: float) -> Prediction:
        """The detections with a score of at least ``threshold``, best last (drawn on top)."""
        order = torch.argsort(self.scores)
        keep = order[self.scores[order] >= threshold]
        return Prediction(
            self.boxes[keep],
            self.scores[keep],
            self.labels[keep],
            self.input_size,
            self.decisions,
        )
