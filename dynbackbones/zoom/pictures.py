"""Pictures of patches: which were looked at, what they were expected to gain, what was found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dynbackbones.analysis.canvas import (
    GAP,
    PANEL_WIDTH,
    TITLE_HEIGHT,
    Canvas,
    draw_box,
    draw_label,
    set_title,
    show,
)
from dynbackbones.analysis.pictures import COLOURS, dimmed
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.decisions import ZoomDecisions

COLUMNS = 2


def save_zoom_picture(
    path: str | os.PathLike,
    rows: Sequence[tuple[np.ndarray, Boxes, ZoomDecisions]],
    *,
    class_names: Sequence[str] | None = None,
    first_label: int = 0,
    score_threshold: float = 0.5,
) -> Path:
    """Draws images: bright the patches that were looked at, the others dimmed, with values.

    Args:
        path: of the PNG; folders are made.
        rows: (H, W, 3) uint8 RGB, what was found, and the decisions of a batch of one.
        class_names: by label, from ``first_label``.
        first_label: of the detector's labels.
        score_threshold: of what is drawn.

    Raises:
        UserError: matplotlib is missing.
    """
    columns = min(COLUMNS, len(rows))
    width = (PANEL_WIDTH + GAP) * columns + GAP
    lines = [rows[start : start + columns] for start in range(0, len(rows), columns)]
    heights = [max(PANEL_WIDTH * r[0].shape[0] / r[0].shape[1] for r in line) for line in lines]
    canvas = Canvas(width, sum(heights) + (TITLE_HEIGHT + GAP) * len(lines))
    top = TITLE_HEIGHT
    for line, height in zip(lines, heights, strict=True):
        for column, (image, found, decisions) in enumerate(line):
            axes = canvas.panel(GAP + column * (PANEL_WIDTH + GAP), top, height)
            _draw(axes, image, found.cpu(), decisions, class_names, first_label, score_threshold)
        top += height + TITLE_HEIGHT + GAP
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.figure.savefig(path)
    return path


def _draw(axes, image, found, decisions, class_names, first_label, threshold) -> None:
    grid, chosen, values = decisions.grids[0], decisions.chosen[0], decisions.values[0]
    share = torch.zeros(grid.size)
    for (x1, y1, x2, y2), taken in zip(grid.cores, chosen.tolist(), strict=True):
        share[y1:y2, x1:x2] = float(taken)
    show(axes, dimmed(image, share.numpy()[..., None]))
    for (x1, y1, x2, y2), value in zip(grid.cores, values.tolist(), strict=True):
        draw_box(axes, (x1, y1, x2, y2), edgecolor="white", linewidth=0.5, alpha=0.3)
        axes.text(x1 + 6, y1 + 6, f"{value:.2f}", fontsize=6, color="white", va="top")
    shown = found[found.scores >= threshold]
    for box, score, label in zip(
        shown.boxes.tolist(), shown.scores.tolist(), shown.labels.tolist(), strict=True
    ):
        number = label - first_label
        colour = COLOURS[number % len(COLOURS)]
        name = class_names[number] if class_names else str(number)
        draw_box(axes, box, edgecolor=colour, linewidth=1.2)
        draw_label(axes, box, f"{name} {score:.2f}", colour, image.shape)
    set_title(
        axes,
        f"{int(chosen.sum())} of {len(grid)} patches, {float(decisions.macs) / 1e9:.2f} GMACs; "
        "numbers: expected gain",
    )
