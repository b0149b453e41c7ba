"""A second domain for the demo: its scenes at night."""

from __future__ import annotations

import os
import zlib

import numpy as np
from mmengine.registry import TRANSFORMS

# Of blue, green and red: what is left of daylight is bluish.
TINT = (1.25, 0.9, 0.7)


@TRANSFORMS.register_module()
class NightLook:
    """Makes an image dark, bluish and noisy; an image always looks the same.

    Args:
        brightness: what is left of the light, between 0 and 1.
        noise: standard deviation in grey levels.
        tint: factors of blue, green and red on top of ``brightness``.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        noise: float = 10.0,
        tint: tuple[float, float, float] = TINT,
    ) -> None:
        if not 0 < brightness <= 1:
            raise ValueError(f"brightness must lie in (0, 1], got {brightness}")
        if not noise >= 0:
            raise ValueError(f"noise must not be negative, got {noise}")
        self.brightness = brightness
        self.noise = noise
        self.tint = tuple(tint)

    def __call__(self, results: dict) -> dict:
        image = results["img"].astype(np.float32)
        name = os.path.basename(results["img_path"])
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        dark = image * np.float32(self.tint) * self.brightness
        noisy = dark + rng.normal(0, self.noise, image.shape)
        results["img"] = noisy.round().clip(0, 255).astype(np.uint8)
        return results

    def __repr__(self) -> str:
        return f"NightLook(brightness={self.brightness}, noise={self.noise}, tint={self.tint})"
