"""Rendered street scenes that adapt to Cityscapes; needs mmseg, so configs import it by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import mmengine.fileio as fileio
import numpy as np
from mmengine.registry import DATASETS, TRANSFORMS
from mmseg.datasets import BaseSegDataset, CityscapesDataset
from mmseg.datasets.transforms import LoadAnnotations

from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.checks import check_dataset

IGNORED = 255
CLASSES_19: tuple[str, ...] = tuple(CityscapesDataset.METAINFO["classes"])
CLASSES_16 = tuple(name for name in CLASSES_19 if name not in ("terrain", "truck", "train"))
_PALETTE = dict(zip(CLASSES_19, CityscapesDataset.METAINFO["palette"], strict=True))

# Ids in the label maps of GTA5, which are those of Cityscapes before its conversion.
GTA5_IDS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17,
    "traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23,
    "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32,
    "bicycle": 33,
}  # fmt: skip
# Images of GTA5 whose label maps have another size: found by those who train on it, and left out
# by several published projects.
GTA5_MISFITS = frozenset(f"{number:05d}" for number in (15188, 17705, *range(20801, 20861)))
# Ids in those of SYNTHIA-RAND-CITYSCAPES.
SYNTHIA_IDS = {
    "sky": 1, "building": 2, "road": 3, "sidewalk": 4, "fence": 5, "vegetation": 6, "pole": 7,
    "car": 8, "traffic sign": 9, "person": 10, "bicycle": 11, "motorcycle": 12,
    "traffic light": 15, "rider": 17, "bus": 19, "wall": 21,
}  # fmt: skip


class _RenderedDataset(BaseSegDataset):
    """Images and label maps in two folders, with ids that are mapped when a map is loaded."""

    IDS: Mapping[str, int]
    HIGHEST_ID: int

    def __init__(
        self,
        data_root: str,
        data_prefix: Mapping[str, str],
        pipeline: Sequence[Mapping[str, Any]] = (),
        ann_file: str = "",
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        options = {"data_root": data_root, "data_prefix": data_prefix, "ann_file": ann_file}
        check_dataset(options, type(self).__name__)
        super().__init__(
            **options,
            img_suffix=".png",
            pipeline=list(pipeline),
            test_mode=test_mode,
            indices=indices,
        )

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """mmseg's way to change labels: from all ids in the files to classes and ignored."""
        classes = list(new_classes or cls.METAINFO["classes"])
        unknown = [name for name in classes if name not in cls.IDS]
        if unknown:
            raise UserError(f"{cls.__name__} has no class {unknown[0]!r}; it has {list(cls.IDS)}")
        mapped = {cls.IDS[name]: index for index, name in enumerate(classes)}
        return {number: mapped.get(number, IGNORED) for number in range(cls.HIGHEST_ID + 1)}


@DATASETS.register_module()
class GTA5Dataset(_RenderedDataset):
    """GTA5 (Richter et al., 2016) with Cityscapes' 19 classes.

    ``images/00001.png`` and ``labels/00001.png`` as they are downloaded, all parts in one folder.
    62 images are left out: their label maps have another size.

    Args:
        data_root: folder of both.
        data_prefix: ``img_path`` and ``seg_map_path`` in it.
        pipeline: transforms, with mmseg's ``LoadAnnotations``.
        ann_file: file with names without suffix, one per line; by default all images.
        test_mode: mmseg's.
        indices: mmengine's.

    Raises:
        UserError: a folder or the file is missing.
    """

    METAINFO = {"classes": CLASSES_19, "palette": [_PALETTE[name] for name in CLASSES_19]}
    IDS = GTA5_IDS
    HIGHEST_ID = 34

    def load_data_list(self) -> list[dict]:
        """mmseg's list of images, without the misfits."""
        images = super().load_data_list()
        return [image for image in images if Path(image["img_path"]).stem not in GTA5_MISFITS]


@DATASETS.register_module()
class SynthiaDataset(_RenderedDataset):
    """SYNTHIA-RAND-CITYSCAPES (Ros et al., 2016) with the 16 classes that Cityscapes has too.

    ``RGB/0000000.png`` and ``GT/LABELS/0000000.png`` as they are downloaded; the pipeline loads
    these with `LoadSynthiaAnnotations`.

    Args, raises: see `GTA5Dataset`.
    """

    METAINFO = {"classes": CLASSES_16, "palette": [_PALETTE[name] for name in CLASSES_16]}
    IDS = SYNTHIA_IDS
    HIGHEST_ID = 22


@TRANSFORMS.register_module()
class LoadSynthiaAnnotations(LoadAnnotations):
    """mmseg's ``LoadAnnotations`` for SYNTHIA's files of two channels with 16 bits.

    Raises:
        UserError: a file is something else.
    """

    def _load_seg_map(self, results: dict) -> None:
        path = results["seg_map_path"]
        content = np.frombuffer(fileio.get(path, backend_args=self.backend_args), np.uint8)
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint16:
            raise UserError(
                f"label map {os.fspath(path)} is not SYNTHIA's: it must be a PNG of 16 bits with "
                "the class in its first and the instance in its second channel (folder GT/LABELS)"
            )
        # OpenCV turns channels round.
        ids = pixels[..., -1].astype(np.uint8)
        labels = ids.copy()
        for number, label in (results.get("label_map") or {}).items():
            labels[ids == number] = label
        results["gt_seg_map"] = labels
        results["seg_fields"].append("gt_seg_map")
