"""Where a spatially dynamic backbone refines: on the objects or beside them?

For every SAR stage: the share of the refined cells that touch an object, against the share of all
cells that do. The ratio of the two is 1 for a stage that refines without looking, above 1 for one
that prefers objects and below 1 for one that prefers the background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from dynbackbones.backbones.decisions import Decisions

Size = tuple[int, int]


def resize_boxes(boxes: Tensor, from_size: Size, to_size: Size) -> Tensor:
    """Moves boxes from one resolution of an image to another.

    Args:
        boxes: (n, 4), ``x1, y1, x2, y2`` in pixels of an image of ``from_size``.
        from_size: ``(height, width)``, for example of the original image.
        to_size: ``(height, width)``, for example of the network's input without padding.
    """
    scale_y, scale_x = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return boxes * boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])


def cells_in_image(row_edges: Tensor, col_edges: Tensor, image_size: Size) -> Tensor:
    """Cells that cover at least one pixel of the image, the others lying in its padding.

    Args:
        row_edges, col_edges: (rows + 1,) and (cols + 1,) edges of the cells in input pixels.
        image_size: ``(height, width)`` of the image in the same pixels.

    Returns:
        (rows, cols) bool.
    """
    rows, cols = (
        # An axis with fewer pixels than cells has cells without any.
        (edges[:-1] < length) & (edges[:-1] < edges[1:])
        for edges, length in zip((row_edges, col_edges), image_size, strict=True)
    )
    return rows[:, None] & cols[None, :]


def cells_touching(boxes: Tensor, row_edges: Tensor, col_edges: Tensor) -> Tensor:
    """Cells that share an area with at least one box; a common edge alone does not count.

    Args:
        boxes: (n, 4), ``x1, y1, x2, y2`` in input pixels; one without area touches nothing.
        row_edges, col_edges: (rows + 1,) and (cols + 1,) edges of the cells in input pixels.

    Returns:
        (rows, cols) bool.
    """
    x1, y1, x2, y2 = boxes.reshape(-1, 4).unbind(1)
    in_rows = (y1[:, None] < row_edges[1:]) & (y2[:, None] > row_edges[:-1]) & (y2 > y1)[:, None]
    in_cols = (x1[:, None] < col_edges[1:]) & (x2[:, None] > col_edges[:-1]) & (x2 > x1)[:, None]
    return (in_rows[:, :, None] & in_cols[:, None, :]).any(0)


@dataclass(frozen=True)
class RegionCounts:
    """Cells of one SAR stage, counted over any number of images.

    Attributes:
        cells: cells in the images. Every selector (block and group) decides about each of them.
        object_cells: those of ``cells`` that touch an object.
        refined: (blocks, G) int64, cells that each selector refined.
        refined_object: (blocks, G) int64, those of ``refined`` that touch an object.
    """

    cells: int
    object_cells: int
    refined: Tensor
    refined_object: Tensor

    @classmethod
    def of(
        cls, mask: Tensor, boxes: Tensor, row_edges: Tensor, col_edges: Tensor, image_size: Size
    ) -> RegionCounts:
        """Counts one image.

        Args:
            mask: (blocks, G, rows, cols) bool, True where a selector refines.
            boxes: (n, 4) objects, ``x1, y1, x2, y2`` in input pixels.
            row_edges, col_edges, image_size: see `cells_in_image`.
        """
        row_edges, col_edges, boxes = row_edges.cpu(), col_edges.cpu(), boxes.cpu()
        inside = cells_in_image(row_edges, col_edges, image_size)
        touching = inside & cells_touching(boxes, row_edges, col_edges)
        mask = mask.cpu().bool()
        return cls(
            cells=int(inside.sum()),
            object_cells=int(touching.sum()),
            refined=(mask & inside).sum((-2, -1)),
            refined_object=(mask & touching).sum((-2, -1)),
        )

    def __add__(self, other: RegionCounts) -> RegionCounts:
        return RegionCounts(
            self.cells + other.cells,
            self.object_cells + other.object_cells,
            self.refined + other.refined,
            self.refined_object + other.refined_object,
        )

    def block(self, index: int) -> RegionCounts:
        """The counts of one block's selector (all its groups)."""
        return RegionCounts(
            self.cells,
            self.object_cells,
            self.refined[index : index + 1],
            self.refined_object[index : index + 1],
        )

    @property
    def activation_rate(self) -> float:
        """Share of the cells that are refined, over all blocks and groups."""
        return _share(self.refined.sum(), self.cells * self.refined.numel())

    @property
    def object_share(self) -> float:
        """Share of all cells that touch an object."""
        return _share(self.object_cells, self.cells)

    @property
    def refined_object_share(self) -> float:
        """Share of the refined cells that touch an object; nan where nothing was refined."""
        return _share(self.refined_object.sum(), self.refined.sum())

    @property
    def preference(self) -> float:
        """``refined_object_share / object_share``: above 1 the stage prefers objects.

        nan where nothing was refined or no cell touches an object.
        """
        return _share(self.refined_object_share, self.object_share)

    def to_dict(self) -> dict[str, int | float | None]:
        """Totals over the selectors, for JSON: None stands for nan."""
        figures = {
            "cells": self.cells * self.refined.numel(),
            "object_cells": self.object_cells * self.refined.numel(),
            "refined_cells": int(self.refined.sum()),
            "refined_object_cells": int(self.refined_object.sum()),
        }
        for name in ("activation_rate", "object_share", "refined_object_share", "preference"):
            value = getattr(self, name)
            figures[name] = None if math.isnan(value) else value
        return figures


def count_regions(
    decisions: Decisions | None, boxes: Tensor, index: int = 0
) -> dict[str, RegionCounts]:
    """Counts the cells of one image of a batch, stage by stage.

    Args:
        decisions: of a backbone's forward; without region masks (a static backbone's) the answer
            is empty.
        boxes: (n, 4) objects of that image, ``x1, y1, x2, y2`` in input pixels.
        index: of the image in the batch.

    Returns:
        Dict from stage (``"res2"``, ...) to `RegionCounts`.
    """
    masks = region_masks(decisions)
    return {
        stage: RegionCounts.of(
            mask[index], boxes, *decisions.region_edges(stage), decisions.image_sizes[index]
        )
        for stage, mask in masks.items()
    }


def region_masks(decisions: Decisions | None) -> dict[str, Tensor]:
    """The region masks of decisions; empty for a backbone that does not choose regions."""
    return getattr(decisions, "masks", None) or {}


class RegionCoverage:
    """Accumulates `RegionCounts` over a dataset: sums of cells, not means of ratios.

    Attributes:
        stages: dict from stage to the counts so far.
        images: number of images so far.
    """

    def __init__(self) -> None:
        self.stages: dict[str, RegionCounts] = {}
        self.images = 0

    def update(self, decisions: Decisions | None, boxes: Sequence[Tensor]) -> None:
        """Adds the images of one forward.

        Args:
            decisions: of the backbone's forward.
            boxes: for each image of the batch its (n, 4) objects in input pixels.
        """
        for index, objects in enumerate(boxes):
            self.images += 1
            for stage, counts in count_regions(decisions, objects, index).items():
                known = self.stages.get(stage)
                self.stages[stage] = counts if known is None else known + counts

    def to_dict(self) -> dict:
        """All figures for JSON, with each stage's blocks."""
        stages = {
            stage: counts.to_dict()
            | {"blocks": [counts.block(i).to_dict() for i in range(len(counts.refined))]}
            for stage, counts in self.stages.items()
        }
        return {"images": self.images, "stages": stages}

    def table(self, per_block: bool = False) -> str:
        """The figures as text, a line for each stage and on request for each of its blocks."""
        lines = [
            f"{'':<10}{'activation':>12}{'refined cells':>16}{'all cells':>12}{'':>9}",
            f"{'stage':<10}{'rate':>12}{'on objects':>16}{'on objects':>12}{'ratio':>9}",
        ]
        for stage, counts in self.stages.items():
            lines.append(_table_line(stage, counts))
            if per_block:
                lines += [
                    _table_line(f"  block {i + 1}", counts.block(i))
                    for i in range(len(counts.refined))
                ]
        return "\n".join(lines)


def format_share(value: float) -> str:
    """``0.314`` as ``31.4 %``; nan as ``n/a``."""
    return "n/a" if math.isnan(value) else f"{100 * value:.1f} %"


def format_ratio(value: float) -> str:
    """``1.41`` as ``1.41``; nan as ``n/a``."""
    return "n/a" if math.isnan(value) else f"{value:.2f}"


def _table_line(name: str, counts: RegionCounts) -> str:
    return (
        f"{name:<10}{format_share(counts.activation_rate):>12}"
        f"{format_share(counts.refined_object_share):>16}"
        f"{format_share(counts.object_share):>12}{format_ratio(counts.preference):>9}"
    )


def _share(part: Tensor | float, whole: Tensor | float) -> float:
    part, whole = float(part), float(whole)
    return part / whole if whole else math.nan
