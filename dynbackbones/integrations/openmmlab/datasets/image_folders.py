"""Class folders as a dataset of mmpretrain that survives broken files; needs mmpretrain.

custom_imports = dict(imports=["dynbackbones.integrations.openmmlab.datasets.image_folders"])

brings with it the transform `LoadWholeImage` and the hook `CorruptImagesHook`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, TRANSFORMS
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.custom import get_samples

from dynbackbones.data import class_folders, images, read_image
from dynbackbones.errors import UserError

ON_CORRUPT = ("skip", "error")
# So many in a row are no accident: a folder was not copied, or a disk is gone.
MAX_CORRUPT_IN_A_ROW = 100
_SHOWN = 3


class CorruptImageError(UserError):
    """An image file is missing, truncated or no image."""


def next_whole(index: int, prepare: Callable[[int], Any], corrupt: torch.Tensor) -> Any:
    """The sample at a place of a dataset, or the next one that can be prepared.

    Args:
        index: the place.
        prepare: makes the sample of a place, or raises a `CorruptImageError`.
        corrupt: (N,) bool, where places that cannot be prepared are noted.

    Raises:
        UserError: too many in a row cannot be.
    """
    for offset in range(MAX_CORRUPT_IN_A_ROW):
        # Not a random one: a resumed run must see the same images.
        place = (index + offset) % len(corrupt)
        try:
            return prepare(place)
        except CorruptImageError as error:
            corrupt[place] = True
            last = error
    raise UserError(f"{MAX_CORRUPT_IN_A_ROW} images in a row cannot be used; the last: {last}")


@TRANSFORMS.register_module()
class LoadWholeImage:
    """Reads an image as BGR, turned upright; unlike OpenCV's reader it takes no half of a JPEG.

    Raises:
        CorruptImageError: the file cannot be read whole.
    """

    def __call__(self, results: dict) -> dict:
        try:
            image = read_image(results["img_path"])
        except UserError as error:
            raise CorruptImageError(str(error)) from error
        results["img"] = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
        results["img_shape"] = results["ori_shape"] = results["img"].shape[:2]
        return results

    def __repr__(self) -> str:
        return "LoadWholeImage()"


@DATASETS.register_module()
class ImageFolders(CustomDataset):
    """``DATA_ROOT/SPLIT/CLASS/*.jpg``: a folder for each class, of any name and number.

    Labels are the places of the training split's folders in alphabetical order, in every split.

    Args:
        data_root: the dataset's folder.
        split: folder of this split.
        pipeline: transforms; the first should be `LoadWholeImage`.
        classes_from: split whose folders say which classes there are.
        on_corrupt: what training does with an image that cannot be read: ``"skip"`` takes the next
            one instead, ``"error"`` stops. Evaluation always stops: its result would be another.
        indices, metainfo, test_mode: mmpretrain's.

    Attributes:
        corrupt: (N,) bool tensor, shared with the workers: files that could not be read so far.

    Raises:
        UserError: an option has a wrong value, or the split's folders are not the classes.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        pipeline: Sequence[Mapping[str, Any]] = (),
        classes_from: str = "train",
        on_corrupt: str = "skip",
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        metainfo: Mapping[str, Any] | None = None,
    ) -> None:
        if on_corrupt not in ON_CORRUPT:
            known = ", ".join(ON_CORRUPT)
            raise UserError(f"on_corrupt must be one of {known}, got {on_corrupt!r}")
        self.on_corrupt = on_corrupt
        classes = class_folders.find_classes(data_root, classes_from)
        class_folders.check_classes(data_root, split, classes)
        super().__init__(
            data_root=data_root,
            data_prefix=split,
            pipeline=pipeline,
            extensions=images.EXTENSIONS,
            indices=indices,
            test_mode=test_mode,
            metainfo={**(metainfo or {}), "classes": classes},
        )
        self.corrupt = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    def is_valid_file(self, filename: str) -> bool:
        """Whether a file, given relative to its class folder, is an image by its name."""
        return images.is_image(filename)

    def _find_samples(self) -> list[tuple[str, int]]:
        # mmpretrain takes every folder for a class.
        self.folder_to_idx = {name: label for label, name in enumerate(self.CLASSES)}
        samples, _ = get_samples(self.img_prefix, self.folder_to_idx, self.is_valid_file)
        return samples

    def __getitem__(self, idx: int) -> Any:
        """The sample, or in training the next one that can be read.

        Raises:
            CorruptImageError: a file cannot be read, and is not to be skipped.
            UserError: too many in a row cannot be read.
        """
        if self.test_mode or self.on_corrupt == "error":
            return self.prepare_data(idx)
        return next_whole(idx, self.prepare_data, self.corrupt)

    def corrupt_files(self) -> list[str]:
        """Files that could not be read so far, in this process and its workers."""
        places = self.corrupt.nonzero().flatten().tolist()
        return [self.get_data_info(place)["img_path"] for place in places]


@HOOKS.register_module()
class CorruptImagesHook(Hook):
    """Says after each epoch which training images could not be read, and lists them in a file.

    The file is ``WORK_DIR/corrupt_images.txt``. Datasets without
    ``corrupt_files``, which `ImageFolders` has, pass.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def after_train_epoch(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        dataset = getattr(dataset, "dataset", dataset)
        if not hasattr(dataset, "corrupt_files"):
            return
        files = {file for part in all_gather_object(dataset.corrupt_files()) for file in part}
        if files <= self._known or not is_main_process():
            return
        self._known |= files
        path = Path(runner.work_dir) / "corrupt_images.txt"
        path.write_text("".join(f"{file}\n" for file in sorted(self._known)), encoding="utf-8")
        shown = sorted(self._known)[:_SHOWN]
        more = ", ..." if len(self._known) > _SHOWN else ""
        runner.logger.warning(
            f"{len(self._known)} of {len(dataset)} training images cannot be read and were "
            f"skipped: {', '.join(shown)}{more}; all of them are in {path}"
        )
