"""A frame beside the key frame whose result it could show."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from dynbackbones.video.flow import dense_flow, import_cv2

_SMALL = (45, 60)
_SAMPLES = 4  # of each of its cells in a direction, which is plenty
_GREY = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # of red, green, blue (ITU-R BT.601)


class Seen:
    """What is kept of a frame's pixels.

    Args:
        image: (H, W, 3) uint8, RGB.

    Attributes:
        size: (height, width).
        image: a copy of the pixels.
    """

    def __init__(self, image: np.ndarray) -> None:
        self.size: tuple[int, int] = image.shape[:2]
        self.image = image.copy()  # a camera may write into it again

    @cached_property
    def grey(self) -> np.ndarray:
        """(H, W) uint8."""
        cv2 = import_cv2()
        return cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY)

    @cached_property
    def small(self) -> Tensor:
        """(45, 60) grey in [0, 1]: means over equal parts of the frame."""
        step = max(1, min(n // (m * _SAMPLES) for n, m in zip(self.size, _SMALL, strict=True)))
        thin = torch.from_numpy(np.ascontiguousarray(self.image[::step, ::step]))
        return (adaptive_avg_pool2d(thin.permute(2, 0, 1).float(), _SMALL) * _GREY).sum(0) / 255


@dataclass(frozen=True)
class Pair:
    """What schedules and propagation ask about a frame and its key; computed once, when asked.

    Attributes:
        key: the frame that the model last ran on.
        frame: the frame at hand, of the same size.
        age: frames between them.
        index: of the frame in its video.
        preset: of `dense_flow`.
        described: what `describe` said of pairs of a clip, by the numbers of key and frame, which
            passes over the same clip share.
    """

    key: Seen
    frame: Seen
    age: int
    index: int
    preset: str = "fast"
    described: dict[tuple[int, int], Tensor] = field(default_factory=dict, compare=False)

    @cached_property
    def difference(self) -> float:
        """Mean absolute difference of both at 60 x 45, in [0, 1]."""
        return difference(self.key, self.frame)

    @cached_property
    def to_key(self) -> np.ndarray:
        """(H, W, 2) pixels from a place in the frame to the same thing in the key."""
        return dense_flow(self.frame.grey, self.key.grey, self.preset)

    @cached_property
    def from_key(self) -> np.ndarray:
        """(H, W, 2) pixels from a place in the key to the same thing in the frame."""
        return dense_flow(self.key.grey, self.frame.grey, self.preset)


def difference(one: Seen, other: Seen) -> float:
    """Mean absolute difference of two frames at 60 x 45, in [0, 1]; their sizes may differ."""
    return float((one.small - other.small).abs().mean())
