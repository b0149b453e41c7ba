"""The demo datasets' semantic masks as datasets of mmseg; needs mmseg, so configs import it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS
from mmseg.datasets import BaseSegDataset

from dynbackbones.data import datasets_root
from dynbackbones.demo import ensure_digits
from dynbackbones.demo.digit_videos import CLIPS, ensure_digit_videos
from dynbackbones.demo.digits import CLASSES
from dynbackbones.demo.wide_digits import ensure_wide_digits


@DATASETS.register_module()
class DigitsDataset(BaseSegDataset):
    """Handwritten digits in textured scenes, written on first use.

    Args:
        split: ``"train"`` (600 images) or ``"val"`` (100), 256 x 192 pixels.
        pipeline: transforms.
        data_root: folder of all datasets; by default ``$DETECTRON2_DATASETS`` or ``datasets``.
        test_mode: mmseg's.
        indices: mmengine's: n for the first images, -n for the last, or a list; by default all.

    Raises:
        ValueError: there is no such split.
        UserError: the dataset cannot be written.
    """

    METAINFO = {
        "classes": ("background", *CLASSES),
        "palette": [[60, 60, 60], [230, 60, 60], [70, 200, 90], [70, 110, 240], [240, 200, 40],
                    [200, 80, 220]],
    }  # fmt: skip
    splits = ("train", "val")

    def __init__(
        self,
        split: str,
        pipeline: Sequence[Mapping[str, Any]],
        data_root: str | None = None,
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        if split not in self.splits:
            names = [repr(name) for name in self.splits]
            listed = f"{', '.join(names[:-1])} or {names[-1]}"
            raise ValueError(f"split must be {listed}, got {split!r}")
        folder = self._written(datasets_root() if data_root is None else data_root)
        super().__init__(
            data_root=os.fspath(folder),
            data_prefix={"img_path": split, "seg_map_path": f"masks/{split}"},
            pipeline=list(pipeline),
            test_mode=test_mode,
            indices=indices,
        )

    @staticmethod
    def _written(root: str | os.PathLike) -> Path:
        return ensure_digits(root)


@DATASETS.register_module()
class WideDigitsDataset(DigitsDataset):
    """Digits in a corner or two of large scenes, written on first use.

    It takes the arguments of `DigitsDataset`; its splits are ``"train"``, 256 x 192 pixels, parts
    of scenes in full and whole ones at a quarter of their resolution, and ``"gains"`` and
    ``"val"``, 1024 x 768; see `dynbackbones.demo.wide_digits`.
    """

    splits = ("train", "gains", "val")

    @staticmethod
    def _written(root: str | os.PathLike) -> Path:
        return ensure_wide_digits(root)


@DATASETS.register_module()
class DigitVideosDataset(DigitsDataset):
    """Frames of a clip with digits, in their order, 256 x 192 pixels, written on first use.

    It takes the arguments of `DigitsDataset`; its splits are the clips ``"bursts"`` and ``"pan"``;
    see `dynbackbones.demo.digit_videos`.
    """

    splits = tuple(CLIPS)

    @staticmethod
    def _written(root: str | os.PathLike) -> Path:
        return ensure_digit_videos(root)
