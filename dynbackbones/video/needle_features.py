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

import torch

from dynbackbones import checkpoints
from dynbackbones.data.video_features import COARSE, FINE, features_file, write_features
from dynbackbones.demo import coco_folder, digits
from dynbackbones.demo.needle_videos import SPLITS
from dynbackbones.video.encoder import FrameEncoder
from dynbackbones.video.needle_encoders import FeaturePlan, encoders_to_train
from dynbackbones.video.needle_split import Videos, encoded

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
            videos = encoded(split, plan, encoders)
            scales = scales or videos.scales()
            _write_split(temporary, split, videos.scaled(scales))

    coco_folder.write_whole(folder, meta, write, _TITLE)
    return folder


def _trained(plan: FeaturePlan) -> dict[str, FrameEncoder]:
    encoders = {}
    for name, encoder, train in encoders_to_train(plan):
        train()
        encoders[name] = encoder
    return encoders


def _write_split(folder: Path, split: str, videos: Videos) -> None:
    lines = []
    for number, (coarse, fine, label, first) in enumerate(zip(*videos, strict=True)):
        name = f"{split}/{number:04d}"
        arrays = {COARSE: coarse.numpy(), FINE: fine.numpy(), FIRST: first.numpy()}
        write_features(features_file(folder, name), **arrays)
        lines.append(f"{name} {int(label)}\n")
    (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
