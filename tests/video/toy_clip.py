"""Clips that move by known amounts, and models that say exactly what they see."""

import numpy as np
import torch
from PIL import Image

from dynbackbones.analysis.prediction import Prediction


def texture(height=96, width=128, seed=0):
    """(height, width, 3) uint8, smooth and without repetition."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3)).astype(np.uint8)
    picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def panned(steps, height=96, width=128):
    """A clip whose camera stands ``steps[t]`` (x, y) pixels further right and down in frame t."""
    large = texture(height + 64, width + 64)
    return [large[32 + y : 32 + y + height, 32 + x : 32 + x + width] for x, y in steps]


class SeesColours:
    """A segmentor whose logits are the pixels at a quarter of the resolution; counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image):
        self.calls += 1
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float()[None]
        return torch.nn.functional.avg_pool2d(pixels, 4, ceil_mode=True)[0]


class FindsBox:
    """A detector that finds one box where it is told."""

    def __init__(self, box):
        self.box = box

    def predict(self, image):
        return Prediction(torch.tensor([self.box]), [0.9], [1], image.shape[:2])
