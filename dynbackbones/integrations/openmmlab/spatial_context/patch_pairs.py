"""Pairs of patches of unlabelled images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmpretrain.structures import DataSample

from dynbackbones.data import read_image
from dynbackbones.data.images import image_files
from dynbackbones.data.proposals import keep_boxes, pair_boxes, random_boxes
from dynbackbones.data.proposals_file import read_proposals
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.datasets.image_folders import (
    ON_CORRUPT,
    CorruptImageError,
    next_whole,
)
from dynbackbones.pretraining import cut_patches, offsets_between
from dynbackbones.pretraining.spatial_context import OFFSET_SIZE, OFFSET_UNITS


@DATASETS.register_module()
class PatchPairs(torch.utils.data.Dataset):
    """A pair of patches of each image in a folder: which one depends on the sample's seed alone.

    A sample has ``inputs``, the target's patch and the context's, (3, S, S) uint8 BGR, and a
    `DataSample` with the ``offset`` between them.

    Args:
        data_root: folder of images, also in subfolders.
        proposals: file of boxes, as ``dynbackbones make-proposals`` writes it; by default squares
            anywhere, the same of an image every time.
        patch_size: S, what patches are resized to.
        boxes: of an image, at most; the best ones of a file.
        size: edge of random squares in pixels.
        max_iou: overlap above which two boxes are no pair: what they share could be copied.
        min_size, max_aspect, min_score: what a box of a file must have; see `keep_boxes`.
        offset_unit: ``"image"`` or ``"pixel"``; see `offsets_between`.
        distillation: the context is the target itself, and the offset 0: plain distillation of
            the same patches, the control of what context brings.
        on_corrupt: what to do with an image that cannot be read or has no pair: ``"skip"`` takes
            the next one instead, ``"error"`` stops.
        cached_images: kept in memory, at most, in each process.
        seed: of random squares.
        test_mode: the pairs are always the same.

    Attributes:
        corrupt: (N,) bool tensor, shared with the workers: files that could not be read so far.

    Raises:
        UserError: an option has a wrong value, or no image has a pair.
    """

    metainfo: Mapping[str, Any] = {}

    def __init__(
        self,
        data_root: str,
        proposals: str | None = None,
        patch_size: int = 64,
        boxes: int = 8,
        size: int = 64,
        max_iou: float = 0.2,
        min_size: float = 16,
        max_aspect: float = 3.0,
        min_score: float = 0.0,
        offset_unit: str = "image",
        distillation: bool = False,
        on_corrupt: str = "skip",
        cached_images: int = 0,
        seed: int = 0,
        test_mode: bool = False,
    ) -> None:
        for name, value, known in (
            ("offset_unit", offset_unit, OFFSET_UNITS),
            ("on_corrupt", on_corrupt, ON_CORRUPT),
        ):
            if value not in known:
                raise UserError(
                    f"PatchPairs: {name} must be {' or '.join(map(repr, known))}, got {value!r}"
                )
        if boxes < 2:
            raise UserError(f"PatchPairs: boxes must be at least 2, got {boxes}")
        self.data_root = Path(data_root)
        self.patch_size, self.boxes, self.size, self.max_iou = patch_size, boxes, size, max_iou
        self.offset_unit, self.distillation = offset_unit, distillation
        self.on_corrupt, self.test_mode, self.seed = on_corrupt, test_mode, seed
        self._cached_images, self._images = cached_images, {}
        self._proposals: dict[str, np.ndarray] | None = None
        self.names = image_files(data_root)
        if proposals is not None:
            limits = {"min_score": min_score, "max_aspect": max_aspect, "min_size": min_size}
            self._proposals = self._read(proposals, limits)
            self.names = list(self._proposals)
        self.corrupt = torch.zeros(len(self.names), dtype=torch.bool).share_memory_()

    def _read(self, path: str, limits: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Boxes of the images that have a pair of them."""
        kept, pairs, apart = {}, 0, 0
        found = read_proposals(path, self.data_root, self.names)
        for name, (boxes, scores) in found.items():
            chosen = boxes[keep_boxes(boxes, scores, **limits)[: self.boxes]]
            all_pairs, good = len(pair_boxes(chosen)), len(pair_boxes(chosen, self.max_iou))
            pairs, apart = pairs + all_pairs, apart + good
            if good:
                kept[name] = chosen
        if not kept:
            raise UserError(
                f"proposals {path}: none of {len(found)} images has two boxes that are sure, large "
                f"and apart enough; change PatchPairs' max_iou={self.max_iou:g} or "
                + ", ".join(f"{name}={value:g}" for name, value in limits.items())
            )
        print_log(
            f"PatchPairs: {len(kept)} of {len(self.names)} images in {self.data_root} have pairs; "
            f"{pairs - apart} of {pairs} pairs overlap by more than {self.max_iou:g} and are left "
            "out",
            logger="current",
        )
        return kept

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample, or the next one that can be read and has a pair.

        Raises:
            CorruptImageError: a file cannot be read, and is not to be skipped.
            UserError: too many in a row cannot be read or have no pair.
        """
        # SeededDataset has seeded this generator for the sample.
        drawn = index if self.test_mode else np.random.randint(2**31)  # noqa: NPY002
        if self.on_corrupt == "error":
            return self._sample(index, drawn)
        return next_whole(index, partial(self._sample, seed=drawn), self.corrupt)

    def corrupt_files(self) -> list[str]:
        """Files that could not be read or had no pair so far, in this process and its workers."""
        places = self.corrupt.nonzero().flatten().tolist()
        return [os.fspath(self.data_root / self.names[place]) for place in places]

    def _sample(self, index: int, seed: int) -> dict[str, Any]:
        name, image = self.names[index], self._image(index)
        boxes, size = self._boxes(index, image.shape[:2]), self.patch_size
        pairs = pair_boxes(boxes, self.max_iou)
        if not len(pairs):
            raise CorruptImageError(
                f"image {self.data_root / name} of {image.shape[1]} x {image.shape[0]} pixels has "
                f"no two squares of size={self.size} that overlap by max_iou={self.max_iou:g} at "
                "most; lower size, or leave the image out"
            )
        rng = np.random.default_rng(seed)
        pair = rng.permutation(pairs[rng.integers(len(pairs))])
        i, j = (pair[0], pair[0]) if self.distillation else pair
        target, context = cut_patches(image, boxes[[i, j]], size).flip(1)
        box = torch.from_numpy(boxes)
        offset = torch.zeros(OFFSET_SIZE)
        if not self.distillation:
            shape = torch.tensor([image.shape[:2]])
            offset = offsets_between(box[[i]], box[[j]], shape, self.offset_unit)[0]
        sample = DataSample(metainfo={
            "img_path": os.fspath(self.data_root / name),
            "patch": f"{name} {boxes[i].tolist()} {size}",
        })  # fmt: skip
        sample.set_field(offset, "offset")
        return {"inputs": [target, context], "data_samples": sample}

    def _image(self, index: int) -> np.ndarray:
        if index in self._images:
            return self._images[index]
        try:
            image = np.asarray(read_image(self.data_root / self.names[index]))
        except UserError as error:
            raise CorruptImageError(str(error)) from error
        if len(self._images) < self._cached_images:
            self._images[index] = image
        return image

    def _boxes(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        if self._proposals is not None:
            return self._proposals[self.names[index]]
        generator = np.random.default_rng([self.seed, index])
        return random_boxes(*shape, self.boxes, self.size, generator)
