"""A dataset of small images in one file; needs mmpretrain."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.registry import DATASETS
from mmpretrain.datasets import BaseDataset

from dynbackbones.data.array_files import read_arrays
from dynbackbones.errors import UserError

# What arrays must be, where there are such.
_FORMS = {
    "labels": (("N",), np.integer),
    "images": (("N", "H", "W", 3), np.uint8),
    "data": (("bytes",), np.uint8),
    "offsets": (("N + 1",), np.integer),
}


@DATASETS.register_module()
class PackedImages(BaseDataset):
    """Images and labels of one ``.npz`` file of NumPy.

    Arrays of the file: ``labels`` (N,), and either ``images`` (N, H, W, 3) uint8, RGB; or ``data``,
    the bytes of encoded images (JPEG, PNG) back to back, with ``offsets`` (N + 1), so that image i
    is ``data[offsets[i]:offsets[i + 1]]``. ``class_names`` are optional. Samples have ``img`` (RGB)
    and ``gt_label``, as those of mmpretrain's `CIFAR10`.

    Args:
        ann_file: the file, in ``data_root``.
        pipeline: transforms.
        data_root: its folder.
        indices: the first so many images, the last so many (negative), or the ones listed.
        test_mode: mmpretrain's.
        metainfo: mmpretrain's; ``classes`` come before the file's ``class_names``.

    Raises:
        UserError: there is no such file, or it does not hold such arrays.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: Sequence[Mapping[str, Any]] = (),
        data_root: str = "",
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        metainfo: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            indices=indices,
            pipeline=pipeline,
            test_mode=test_mode,
            metainfo=dict(metainfo or {}),
        )

    def load_data_list(self) -> list[dict]:
        """Reads the file; encoded images stay so until they are wanted."""
        arrays = _read(self.ann_file)
        labels = arrays["labels"]
        if "images" in arrays:
            key, images = "img", arrays["images"]
        else:
            key, images = "encoded", self._encoded(arrays["data"], arrays["offsets"])
        if len(images) != len(labels):
            raise UserError(
                f"image file {self.ann_file} has {len(images)} images but {len(labels)} labels; "
                "make it anew"
            )
        if "class_names" in arrays:
            self._metainfo.setdefault("classes", tuple(map(str, arrays["class_names"])))
        return [
            {key: image, "gt_label": int(label)}
            for image, label in zip(images, labels, strict=True)
        ]

    def _encoded(self, data: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
        bounds = [0, *offsets.astype(np.int64).tolist(), len(data)]
        if any(start > end for start, end in zip(bounds[:-1], bounds[1:], strict=True)):
            raise UserError(
                f"image file {self.ann_file}: offsets must rise from 0 to the {len(data)} bytes of "
                "data; make it anew"
            )
        inner = bounds[1:-1]
        return [data[start:end] for start, end in zip(inner[:-1], inner[1:], strict=True)]

    def get_data_info(self, idx: int) -> dict:
        """A sample as the pipeline gets it."""
        info = super().get_data_info(idx)
        encoded = info.pop("encoded", None)
        if encoded is not None:
            info["img"] = self._decoded(encoded, idx)
        return info

    def _decoded(self, encoded: np.ndarray, idx: int) -> np.ndarray:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
        if image is None:
            raise UserError(
                f"image file {self.ann_file}: what data holds for image {idx} is not an image"
            )
        return np.ascontiguousarray(image[:, :, ::-1])


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise UserError(f"image file {path} does not exist; put it there, or change data_root")
    arrays = read_arrays(path, "image file")
    if "labels" not in arrays or not (
        {"images"} <= arrays.keys() or {"data", "offsets"} <= arrays.keys()
    ):
        raise UserError(
            f"image file {path} must hold labels and images, or labels, data and offsets; it holds "
            f"{', '.join(sorted(arrays)) or 'nothing'}"
        )
    for name, (shape, kinds) in _FORMS.items():
        _check(path, name, arrays.get(name), shape, kinds)
    return arrays


def _check(
    path: str | os.PathLike, name: str, values: np.ndarray | None, shape: tuple, kinds: type
) -> None:
    if values is None:
        return
    fits = values.ndim == len(shape) and shape[3:] == values.shape[3:]
    if not fits or not np.issubdtype(values.dtype, kinds):
        wanted = ", ".join(map(str, shape))
        raise UserError(
            f"image file {path}: {name} must be ({wanted}) of {kinds.__name__}, got "
            f"{values.shape} of {values.dtype}; make it anew"
        )
