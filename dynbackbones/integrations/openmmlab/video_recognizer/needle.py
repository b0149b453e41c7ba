"""Features of the demo's needle videos as a dataset."""

from __future__ import annotations

import os
from typing import Any

import torch
from mmengine.registry import DATASETS

from dynbackbones.data import datasets_root
from dynbackbones.data.video_features import COARSE, FINE
from dynbackbones.demo.digit_tiles import CLASSES
from dynbackbones.demo.needle_videos import FRAMES, SPLITS, VISIBLE, spliced_frames
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.video_recognizer.features import VideoFeatures
from dynbackbones.video.needle_encoders import FeaturePlan
from dynbackbones.video.needle_features import FIRST, ensure_needle_features


@DATASETS.register_module()
class NeedleFeatures(VideoFeatures):
    """Features of videos in which a digit shows for 6 of 60 frames, written on first use.

    Args:
        split: ``"train"`` (2,000 videos) or ``"val"`` (800), of other digit samples.
        spliced: put a video's digit into another one's clutter, at another time, which is as good
            as a new video; without it networks learn by heart which clutter goes with which class.
        data_root: folder of all datasets; by default ``$DETECTRON2_DATASETS`` or ``datasets``.
        plan: fields of `FeaturePlan` that are to be others, such as ``train``.

    Raises:
        UserError: there is no such split, or the features cannot be written.
    """

    def __init__(
        self,
        split: str,
        spliced: bool = False,
        data_root: str | os.PathLike | None = None,
        plan: dict[str, Any] | None = None,
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        root = datasets_root() if data_root is None else data_root
        folder = ensure_needle_features(root, FeaturePlan(**(plan or {})))
        super().__init__(f"{split}.txt", len(CLASSES), folder, in_memory=True, classes=CLASSES)
        self.spliced = spliced

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        if not self.spliced:
            return sample
        clutter = int(torch.randint(len(self), ()))
        at = int(torch.randint(FRAMES - VISIBLE + 1, ()))
        own, other = self.arrays(index), self.arrays(clutter)
        shows, frames = map(torch.from_numpy, spliced_frames(own[FIRST], other[FIRST], at))
        for key in (COARSE, FINE):
            ours, theirs = (torch.from_numpy(each[key])[frames] for each in (own, other))
            sample[key] = torch.where(shows[:, None], ours, theirs)
        return sample
