"""Datasets: COCO-format sources and the demo dataset that the package makes itself.

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
from dynbackbones.data.digits import ensure_digits, write_digits

__all__ = [
    "CocoSource",
    "check",
    "datasets_root",
    "ensure_digits",
    "known_datasets",
    "read_image",
    "resolve",
    "write_digits",
]
