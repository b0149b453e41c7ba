"""Features of the demo's needle videos in files, to train AdaFrame and LiteEval on.

Below the root:

    needle_features/{train,val}.txt     lists, see `dynbackbones.data.video_features`
    needle_features/{train,val}/*.npz   coarse and fine features, and the first frame with the digit
    needle_features/{coarse,fine}.pth   weights of the encoders, see `build_encoders`
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dynbackbones import checkpoints
from dynbackbones.data.video_features import features_file, write_features
from dynbackbones.demo import coco_folder, digits
from dynbackbones.demo.needle_videos import SPLITS
from dynbackbones.video.encoder import FrameEncoder
from dynbackbones.video.needle_encoders import (
    FeaturePlan,
    build_encoders,
    drawn_videos,
    encoded,
    scale_of,
    single_frames,
    train_encoder,
)

FOLDER = "needle_features"
FIRST = "first"
VERSION = 1
_TITLE = "the features of needle videos"

_logger = logging.getLogger(__name__)


def ensure_needle_features(root: str | os.PathLike, plan: FeaturePlan | None = None) -> Path:
    """Writes the features unless they are there: trains encoders and draws videos, in minutes.

    Args:
        root: folder of all datasets.
        plan: how many videos, and how long encoders train.

    Returns:
        ``root/needle_features``.

    Raises:
        UserError: that is something else or cannot be written; scikit-learn or Pillow is missing.
    """
    plan, folder = plan or FeaturePlan(), Path(root, FOLDER)
    meta = {"version": VERSION, "seed": digits.SEED, "train": plan.train, "val": plan.val}
    if coco_folder.is_written(folder, meta, _TITLE):
        return folder
    _logger.info("writing %s to %s, which takes some minutes", _TITLE, folder)

    def write(temporary: Path) -> None:
        # The run that writes them is to draw what later runs draw.
        with torch.random.fork_rng(devices=[]):
            encoders = _trained(plan)
        for name, encoder in encoders.items():
            checkpoints.save(temporary / f"{name}.pth", encoder.state_dict(), {})
        scales = None
        for split in SPLITS:
            scales = _write_split(temporary, split, encoders, plan, scales)

    coco_folder.write_whole(folder, meta, write, _TITLE)
    return folder


def _trained(plan: FeaturePlan) -> dict[str, FrameEncoder]:
    encoders = build_encoders()
    frames = [single_frames(split, plan) for split in ("encoder", "val")]
    for name, encoder in encoders.items():
        train_encoder(encoder, *frames, plan, name)
    return encoders


def _write_split(
    folder: Path,
    split: str,
    encoders: dict[str, FrameEncoder],
    plan: FeaturePlan,
    scales: list[tuple[Tensor, Tensor]] | None,
) -> list[tuple[Tensor, Tensor]]:
    """Writes a split's features, scaled as the training split's, whose scales it returns."""
    videos, features = [], []
    for video in drawn_videos(split, plan, "encoding"):
        videos.append((video.label, video.first))
        features.append(encoded(video, encoders))
    columns = [torch.stack(values) for values in zip(*features, strict=True)]
    scales = scales or [scale_of(values) for values in columns]
    coarse, fine = (
        ((values - mean) / std).numpy() for values, (mean, std) in zip(columns, scales, strict=True)
    )
    lines = []
    for number, (label, first) in enumerate(videos):
        name = f"{split}/{number:04d}"
        arrays = {"coarse": coarse[number], "fine": fine[number], FIRST: np.array(first)}
        write_features(features_file(folder, name), **arrays)
        lines.append(f"{name} {label}\n")
    (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    return scales
