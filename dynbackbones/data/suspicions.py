"""What looks wrong with a dataset as a whole though each of its boxes could be right."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# Shares of all boxes. COCO itself stays far below each of them.
_FEW = 0.01
_SOME = 0.05
_MANY = 0.1
_MOST = 0.99
# Rounding puts a box so far beyond the border, in pixels and as a share of the image's side.
_SLACK = 1.5
_SLACK_SHARE = 0.01


def suspicions(content: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about boxes that are probably not what their author meant.

    Args:
        content: of an annotation file, from `normalise`.
    """
    annotations = content["annotations"]
    if not annotations:
        yield "there is no box in it: nothing can be learnt from it or found in it"
        return
    boxes = np.array([annotation["bbox"] for annotation in annotations], dtype=float)
    by_id = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    sizes = np.array([by_id[annotation["image_id"]] for annotation in annotations], dtype=float)
    number = f"of {len(boxes)} boxes"
    # Boxes without any width or height are COCO's own way to say nothing.
    tiny = ((boxes[:, 2:] < 1) & (boxes[:, 2:] > 0)).any(axis=1)
    within_one = (boxes[:, :2] + boxes[:, 2:] <= 1.01).all(axis=1) & (sizes > 2).all(axis=1)
    if within_one.mean() > _MOST:
        yield (
            f"all {number[3:]} lie within the first pixel of their image: they look normalised to "
            "0..1, and must be in pixels"
        )
        return
    if tiny.mean() > _FEW:
        yield f"{tiny.sum()} {number} are smaller than a pixel: are they in another unit?"
    yield from _beyond(boxes, sizes, number)


def _beyond(boxes: np.ndarray, sizes: np.ndarray, number: str) -> Iterator[str]:
    """About boxes that do not lie in their image."""
    ends = boxes[:, :2] + boxes[:, 2:]
    slack = np.maximum(_SLACK, _SLACK_SHARE * sizes)
    over = ((boxes[:, :2] < -slack) | (ends > sizes + slack)).any(axis=1)
    outside = ((boxes[:, :2] >= sizes) | (ends <= 0)).any(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    corners = ((boxes[:, 2:] >= boxes[:, :2]) & (boxes[:, 2:] <= sizes + slack)).all(axis=1)
    if over.mean() > _MANY and corners.mean() > _MOST:
        yield (
            f"{over.sum()} {number} reach over the border of their image, and none would as x1 y1 "
            "x2 y2: they look like corners, and must be x y width height"
        )
    elif over.mean() > _SOME:
        yield (
            f"{over.sum()} {number} reach over the border of their image: were they made for "
            "images of another size?"
        )
    if outside.mean() > _FEW:
        yield f"{outside.sum()} {number} lie wholly outside their image: nobody can find them"
