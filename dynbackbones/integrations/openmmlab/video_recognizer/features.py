"""Features of videos as a dataset of mmengine's, and batches of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DATASETS, FUNCTIONS
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from dynbackbones.data import video_features
from dynbackbones.data.video_features import COARSE, FINE
from dynbackbones.errors import UserError


@DATASETS.register_module()
class VideoFeatures(Dataset):
    """Features of each frame of videos, as ``dynbackbones video-features`` writes them.

    Samples have ``coarse`` (T, Dc), ``fine`` (T, Df), ``label`` and ``name``; `pad_videos` makes
    batches of them.

    Args:
        ann_file: list of the videos in ``data_root``, see `dynbackbones.data.video_features`.
        num_classes: of the labels.
        data_root: folder of list and files.
        coarse_channels, fine_channels: what all files must have; by default what the first has.
        in_memory: keep the features of each video that was read.
        classes: their names, for checkpoints.

    Raises:
        UserError: the list is at fault, see `read_list`; in samples, a file, see `read_features`.
    """

    def __init__(
        self,
        ann_file: str | os.PathLike,
        num_classes: int,
        data_root: str | os.PathLike = "",
        *,
        coarse_channels: int | None = None,
        fine_channels: int | None = None,
        in_memory: bool = False,
        classes: Sequence[str] = (),
    ) -> None:
        if classes and len(classes) != num_classes:
            raise UserError(f"num_classes is {num_classes}, but there are {len(classes)} classes")
        self.data_root = Path(data_root)
        self.videos = video_features.read_list(
            self.data_root / ann_file, self.data_root, num_classes
        )
        self.metainfo = {"classes": tuple(classes)} if classes else {}
        self._channels = coarse_channels, fine_channels
        first = self._read(0)
        self._channels = first[COARSE].shape[1], first[FINE].shape[1]
        self._kept: dict[int, dict[str, Any]] | None = {0: first} if in_memory else None

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, label = self.videos[index]
        arrays = self.arrays(index)
        features = {key: torch.from_numpy(arrays[key]) for key in (COARSE, FINE)}
        return {**features, "label": label, "name": name}

    def arrays(self, index: int) -> dict[str, Any]:
        """All that the file of a video holds."""
        if self._kept is None:
            return self._read(index)
        if index not in self._kept:
            self._kept[index] = self._read(index)
        return self._kept[index]

    def _read(self, index: int) -> dict[str, Any]:
        path = video_features.features_file(self.data_root, self.videos[index].name)
        return video_features.read_features(path, *self._channels)


@FUNCTIONS.register_module()
def pad_videos(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of videos of several lengths: ``collate_fn=dict(type="pad_videos")``.

    Returns:
        ``coarse`` (N, T, Dc) and ``fine`` (N, T, Df), with 0 past a video's end, ``lengths`` and
        ``labels`` (N,), ``names``.
    """
    return {
        COARSE: pad_sequence([sample[COARSE] for sample in samples], batch_first=True),
        FINE: pad_sequence([sample[FINE] for sample in samples], batch_first=True),
        "lengths": torch.tensor([len(sample[FINE]) for sample in samples]),
        "labels": torch.tensor([sample["label"] for sample in samples]),
        "names": [sample["name"] for sample in samples],
    }
