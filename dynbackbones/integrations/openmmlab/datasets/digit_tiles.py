"""Single digits as a dataset of mmpretrain; needs mmpretrain, so configs import it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from mmpretrain.datasets import BaseDataset

from dynbackbones.demo.digit_tiles import CLASSES, make_tiles


@DATASETS.register_module()
class DigitTiles(BaseDataset):
    """Handwritten digits on textured tiles, drawn when the dataset is built; see `make_tiles`.

    Samples have ``img``, BGR as mmcv's readers give it, and ``gt_label``.

    Args:
        split: ``"train"`` or ``"val"``.
        count: number of tiles.
        pipeline: transforms.
        test_mode: mmpretrain's.

    Raises:
        ValueError: there is no such split, or the count is below 1.
        UserError: scikit-learn or Pillow is missing.
    """

    METAINFO = {"classes": CLASSES}

    def __init__(
        self,
        split: str,
        count: int,
        pipeline: Sequence[Mapping[str, Any]] = (),
        test_mode: bool = False,
    ) -> None:
        self.split = split
        self.count = count
        super().__init__(ann_file="", pipeline=pipeline, test_mode=test_mode)

    def load_data_list(self) -> list[dict]:
        """Draws the tiles."""
        tiles = make_tiles(self.split, self.count)
        images = np.ascontiguousarray(tiles.images[..., ::-1])
        return [
            {"img": image, "gt_label": int(label)}
            for image, label in zip(images, tiles.labels, strict=True)
        ]
