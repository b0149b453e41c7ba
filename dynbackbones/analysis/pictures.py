"""Pictures of detections and of the regions that a spatially dynamic backbone refined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dynbackbones.analysis.canvas import (
    CAPTION_HEIGHT,
    DPI,
    GAP,
    HEADER_HEIGHT,
    PANEL_WIDTH,
    TITLE_HEIGHT,
    Canvas,
    draw_box,
    draw_label,
    set_title,
    show,
)
from dynbackbones.analysis.coverage import (
    RegionCounts,
    RegionCoverage,
    count_regions,
    format_ratio,
    format_share,
    region_masks,
    resize_boxes,
)
from dynbackbones.analysis.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MINIMUM_CELL = 7  # dots: grid lines closer than this would hide the image

SHADE = np.array([0.05, 0.06, 0.12])  # unrefined regions fade towards it
SHADE_STRENGTH = 0.72
COLOURS = (
    "#ffb000", "#4cc9f0", "#f72585", "#80ed99", "#c77dff",
    "#ff6b35", "#f1faee", "#00bbf9", "#fee440", "#ef476f",
)  # fmt: skip

DETECTIONS_CAPTION = "Solid: detections with scores. Dashed: ground truth."
REGIONS_CAPTION = (
    "  Bright regions were refined, dimmed ones were not; "
    "the brightness is the share of the stage's selectors that refine a region."
)


@dataclass(frozen=True)
class PictureRow:
    """One image of a picture.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        prediction: the detector's, for this image.
        boxes: (n, 4) ground truth, ``x1, y1, x2, y2`` in pixels of ``image``.
        title: shown above the image, for example its file name.
    """

    image: np.ndarray
    prediction: Prediction
    boxes: Tensor
    title: str = ""


def region_brightness(
    mask: Tensor, row_edges: Tensor, col_edges: Tensor, input_size: tuple[int, int]
) -> Tensor:
    """The share of a stage's selectors that refine each pixel of the network's input.

    Args:
        mask: (blocks, G, rows, cols) bool of one image.
        row_edges, col_edges: (rows + 1,) and (cols + 1,) edges of the cells in input pixels.
        input_size: ``(height, width)`` of the image without padding; the rest is cut off.

    Returns:
        (height, width) float in [0, 1].
    """
    share = mask.cpu().float().mean((0, 1))
    # A pixel's cell is the last one that starts at or before it.
    row, col = (
        torch.bucketize(torch.arange(size), edges[1:-1].cpu(), right=True)
        for size, edges in zip(input_size, (row_edges, col_edges), strict=True)
    )
    return share[row][:, col]


def save_region_picture(
    path: str | Path,
    rows: Sequence[PictureRow],
    class_names: Sequence[str],
    *,
    score_threshold: float = 0.5,
    coverage: RegionCoverage | None = None,
) -> Path:
    """Writes a PNG: a row per image, its detections and then what each SAR stage refined.

    Images of a backbone that chooses no regions are shown with their detections alone.

    Args:
        path: of the PNG; its folder is created.
        rows: the images, top to bottom.
        class_names: by label.
        score_threshold: detections below it are left out.
        coverage: figures of a whole dataset, shown above the stages' columns.

    Returns:
        ``path``.

    Raises:
        UserError: matplotlib is not installed.
        ValueError: ``rows`` is empty.
    """
    if not rows:
        raise ValueError("rows must hold at least one image, got none")
    stages = list(region_masks(rows[0].prediction.decisions))
    heights = [PANEL_WIDTH * row.image.shape[0] / row.image.shape[1] for row in rows]
    lefts = [GAP + column * (PANEL_WIDTH + GAP) for column in range(1 + len(stages))]
    top = HEADER_HEIGHT if stages and coverage is not None else 0.0
    page = Canvas(
        lefts[-1] + PANEL_WIDTH + GAP,
        top + sum(heights) + len(rows) * TITLE_HEIGHT + CAPTION_HEIGHT,
    )
    if top:
        for left, text in zip(lefts, _headers(stages, coverage), strict=True):
            page.text(left, 0.12, text, fontsize=10, fontweight="bold")
    for row, height in zip(rows, heights, strict=True):
        top += TITLE_HEIGHT
        panels = [page.panel(left, top, height) for left in lefts]
        _draw_detections(panels[0], row, class_names, score_threshold)
        for panel, stage in zip(panels[1:], stages, strict=True):
            _draw_stage(panel, row, stage)
        top += height
    caption = DETECTIONS_CAPTION + (REGIONS_CAPTION if stages else "")
    page.text(GAP, top + 0.14, caption, fontsize=8, color="#555555")
    return page.save(path)


def _headers(stages: Sequence[str], coverage: RegionCoverage) -> list[str]:
    texts = [f"All {coverage.images} images"]
    for stage in stages:
        counts = coverage.stages[stage]
        texts.append(
            f"{stage}: {format_share(counts.activation_rate)} refined, "
            f"object ratio {format_ratio(counts.preference)}"
        )
    return texts


def _stage_title(stage: str, counts: RegionCounts) -> str:
    return (
        f"{stage}: {format_share(counts.activation_rate)} refined\n"
        f"on objects: {format_share(counts.refined_object_share)} of refined cells, "
        f"{format_share(counts.object_share)} of all (ratio {format_ratio(counts.preference)})"
    )


def _draw_detections(
    axes: Axes, row: PictureRow, class_names: Sequence[str], threshold: float
) -> None:
    shown = row.prediction.above(threshold)
    show(axes, row.image)
    _draw_ground_truth(axes, row.boxes, width=1.0)
    for box, score, label in zip(
        shown.boxes.tolist(), shown.scores.tolist(), shown.labels.tolist(), strict=True
    ):
        colour = COLOURS[label % len(COLOURS)]
        draw_box(axes, box, edgecolor=colour, linewidth=1.6)
        draw_label(axes, box, f"{class_names[label]} {score:.2f}", colour, row.image.shape)
    count = f"{len(shown.boxes)} detections ≥ {threshold:g}, {len(row.boxes)} objects"
    set_title(axes, f"{row.title}\n{count}" if row.title else count)


def _draw_stage(axes: Axes, row: PictureRow, stage: str) -> None:
    prediction = row.prediction
    decisions, size = prediction.decisions, prediction.input_size
    mask = region_masks(decisions)[stage][0]
    edges = decisions.region_edges(stage)
    share = share_in_image(region_brightness(mask, *edges, size), row.image.shape[:2])
    show(axes, dimmed(row.image, share))
    _draw_grid(axes, row.image.shape, edges, size)
    _draw_ground_truth(axes, row.boxes, width=0.8)
    boxes = resize_boxes(row.boxes, row.image.shape[:2], size)
    set_title(axes, _stage_title(stage, count_regions(decisions, boxes)[stage]))


def share_in_image(share: Tensor, image_size: tuple[int, int]) -> np.ndarray:
    """A `region_brightness` in the pixels of an image of another size.

    Returns:
        (*image_size, 1) float; by the nearest pixel, so that cells keep their edges.
    """
    indices = (
        ((torch.arange(size) + 0.5) * (given / size)).long()
        for size, given in zip(image_size, share.shape, strict=True)
    )
    rows, cols = indices
    return share[rows][:, cols].numpy()[..., None]


def dimmed(image: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The image where ``share`` is 1, a grey and dark version of it where it is 0.

    Args:
        image: (H, W, 3) uint8.
        share: (H, W, 1) in [0, 1].

    Returns:
        (H, W, 3) float in [0, 1].
    """
    colour = image.astype(np.float32) / 255
    grey = colour.mean(-1, keepdims=True)
    dark = (1 - SHADE_STRENGTH) * grey + SHADE_STRENGTH * SHADE
    return share * colour + (1 - share) * dark


def _draw_grid(
    axes: Axes,
    image_shape: tuple[int, ...],
    edges: tuple[Tensor, Tensor],
    input_size: tuple[int, int],
) -> None:
    height, width = image_shape[:2]
    cell = float((edges[1][1:] - edges[1][:-1]).max()) / input_size[1] * PANEL_WIDTH * DPI
    if cell < MINIMUM_CELL:
        return
    style = {"colors": "white", "linewidths": 0.5, "alpha": 0.22}
    ys = edges[0][1:-1].cpu().numpy() * (height / input_size[0])
    xs = edges[1][1:-1].cpu().numpy() * (width / input_size[1])
    axes.hlines(ys[ys < height] - 0.5, -0.5, width - 0.5, **style)
    axes.vlines(xs[xs < width] - 0.5, -0.5, height - 0.5, **style)


def _draw_ground_truth(axes: Axes, boxes: Tensor, width: float) -> None:
    for box in boxes.tolist():
        # Black below white dashes: visible on every background.
        draw_box(axes, box, edgecolor="black", linewidth=width, alpha=0.6)
        draw_box(axes, box, edgecolor="white", linewidth=width, linestyle=(0, (3, 3)))
