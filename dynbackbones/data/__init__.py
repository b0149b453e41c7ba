"""Datasets of users: where they are, and whether they are fit to use.

Nothing here imports Pillow, scikit-learn or pycocotools before it needs them.
"""

from dynbackbones.data.coco import (
    CocoSource,
    check,
    datasets_root,
    known_datasets,
    read_image,
    resolve,
)

__all__ = [
    "CocoSource",
    "check",
    "datasets_root",
    "known_datasets",
    "read_image",
    "resolve",
]
