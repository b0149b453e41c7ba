"""Data sets of this package in detectron2's catalog, and checks before anything is trained."""

from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.detection_utils import SizeMismatchError

from dynbackbones.data import coco
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import num_classes


def register_datasets(cfg: CfgNode) -> None:
    """Registers the data sets of a config that detectron2 does not know.

    These are ``digits_train``, ``digits_val`` (written on first use) and the entries of
    ``DATASETS.COCO_FORMAT``.

    Raises:
        UserError: a name is known neither to detectron2 nor here.
    """
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if name in DatasetCatalog.list():
            if not MetadataCatalog.get(name).get("from_dynbackbones", False):
                continue
            # The folder or the entry may have changed since, in a notebook for example.
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        source = coco.resolve(name, cfg.DATASETS.COCO_FORMAT)
        register_coco_instances(
            name, {"from_dynbackbones": True}, str(source.annotations), str(source.images)
        )


def check_datasets(cfg: CfgNode, names: tuple[str, ...]) -> dict[str, int]:
    """Checks registered data sets in COCO format against the files and ``NUM_CLASSES``.

    Data sets that a project registered in another way are left to it.

    Returns:
        The number of images of each that was checked.

    Raises:
        UserError: see `dynbackbones.data.coco.check`.
    """
    sizes = {}
    for name in dict.fromkeys(names):
        metadata = MetadataCatalog.get(name)
        annotations, images = metadata.get("json_file"), metadata.get("image_root")
        if annotations and images:
            source = coco.CocoSource(name, Path(annotations), Path(images))
            sizes[name] = len(coco.check(source, num_classes(cfg))["images"])
    return sizes


class CheckedMapper(DatasetMapper):
    """detectron2's mapper, naming the file of an image that cannot be read."""

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        try:
            return super().__call__(dataset_dict)
        except (OSError, SyntaxError, SizeMismatchError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"image {dataset_dict['file_name']} cannot be used ({reason}); "
                f"replace it, or remove it from the annotation file"
            ) from error
