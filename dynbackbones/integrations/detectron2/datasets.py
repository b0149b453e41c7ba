"""Data sets of this package in detectron2's catalog, and checks before anything is trained."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.detection_utils import SizeMismatchError

from dynbackbones.data import coco, images
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import num_classes
from dynbackbones.integrations.datasets import find_dataset, no_boxes


def register_datasets(cfg: CfgNode) -> None:
    """Registers the data sets of a config that detectron2 does not know.

    These are ``digits_train``, ``digits_val`` (written on first use) and the entries of
    ``DATASETS.COCO_FORMAT``.

    Raises:
        UserError: a name is known neither to detectron2 nor here.
    """
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        known = name in DatasetCatalog.list()
        # The folder or the entry of one of ours may have changed since, as in a notebook.
        if not known or MetadataCatalog.get(name).get("from_dynbackbones", False):
            source = find_dataset(cfg, name)
            _register(name, source.annotations, source.images)


def check_datasets(
    cfg: CfgNode, names: Iterable[str], classes: coco.Classes | None = None
) -> dict[str, int]:
    """Checks registered data sets in COCO format against the files and ``NUM_CLASSES``.

    Of a file that is not plain, see `dynbackbones.data.annotations`, detectron2 gets a copy in
    ``OUTPUT_DIR`` that is. Data sets that a project registered in another way are left to it.

    Args:
        cfg: of the run.
        names: of its data sets, those that it trains on first.
        classes: what the model's outputs stand for; None to learn it from the first data set.

    Returns:
        The number of images of each that was checked.

    Raises:
        UserError: see `dynbackbones.data.coco.check`.
    """
    sizes, bare = {}, []
    for name in dict.fromkeys(names):
        metadata = MetadataCatalog.get(name)
        annotations, folder = metadata.get("json_file"), metadata.get("image_root")
        if not (annotations and folder):
            continue
        ours = metadata.get("from_dynbackbones", False)
        if ours:
            source = find_dataset(cfg, name)
        else:
            # Not for this package to say where a project's images may lie.
            source = coco.CocoSource(name, Path(annotations), Path(folder), anywhere=True)
        reading = coco.read(source, num_classes(cfg), classes)
        classes = classes or coco.Classes(coco.class_names(reading.content), name)
        if reading.changed and not ours:
            raise UserError(
                f"{name}: {annotations} has to be read in another way than detectron2 does (values "
                "as texts or null, ids from 0, categories in another order, ...): name it in "
                "DATASETS.COCO_FORMAT under another name, or correct it"
            )
        _keep_copy(cfg, source, reading if ours else None)
        sizes[name] = len(reading.content["images"])
        if name in cfg.DATASETS.TRAIN and all(a["iscrowd"] for a in reading.content["annotations"]):
            bare.append(name)
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and bare and set(bare) == set(cfg.DATASETS.TRAIN):
        raise no_boxes(bare)
    return sizes


def use_copies(cfg: CfgNode) -> None:
    """Has a new process read the copies that `check_datasets` made."""
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        copy = _copy_of(cfg, name)
        if copy.is_file() and MetadataCatalog.get(name).get("from_dynbackbones", False):
            _register(name, copy, MetadataCatalog.get(name).image_root)


def _keep_copy(cfg: CfgNode, source: coco.CocoSource, reading: coco.Reading | None) -> None:
    """Writes what a data set's file means, if it does not say it itself; removes an old copy."""
    copy = _copy_of(cfg, source.name)
    if reading is None or not (reading.changed or reading.completed):
        copy.unlink(missing_ok=True)
        return
    content = reading.content
    if cfg.MODEL.MASK_ON:  # where detectron2 leaves out what has no outline
        outlined = [entry for entry in content["annotations"] if "segmentation" in entry]
        content = {**content, "annotations": outlined}
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{copy} cannot be written: {error.strerror}") from error
    _register(source.name, copy, source.images)


def _copy_of(cfg: CfgNode, name: str) -> Path:
    return Path(cfg.OUTPUT_DIR, "annotations", f"{name}.json")


def _register(name: str, annotations: Path, images: Path) -> None:
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_coco_instances(name, {"from_dynbackbones": True}, str(annotations), str(images))


class CheckedMapper(DatasetMapper):
    """detectron2's mapper, naming the file of an image that cannot be read or is cut off."""

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        path = dataset_dict["file_name"]
        if os.path.isfile(path):
            images.check_header(path)
        try:
            return super().__call__(dataset_dict)
        except (OSError, SyntaxError, SizeMismatchError) as error:
            size = dataset_dict.get("width"), dataset_dict.get("height")
            turned = isinstance(error, SizeMismatchError) and images.turned_size(path) == size
            remedy = "replace it, or remove it from the annotation file"
            raise UserError(
                f"image {path} cannot be used ({' '.join(str(error).split())}); "
                f"{images.EXIF_REMEDY if turned else remedy}"
            ) from error
