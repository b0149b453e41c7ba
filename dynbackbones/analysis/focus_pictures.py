"""Pictures of what a classifier of crops looked at, how sure it was, and where it stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dynbackbones.analysis.canvas import GAP, Canvas, draw_box, set_title, show
from dynbackbones.analysis.pictures import COLOURS
from dynbackbones.classifiers import FocusDecisions
from dynbackbones.classifiers.glance_focus.crops import glance

WIDTH, TITLE = 1.3, 0.3  # inches, of a panel and above it


@dataclass(frozen=True)
class FocusRow:
    """One image of a picture.

    Attributes:
        image: (H, W, 3) uint8 RGB, in the pixels that the network saw.
        decisions: of the forward pass.
        index: of the image in its batch.
        title: shown above it, such as what it was taken for.
    """

    image: np.ndarray
    decisions: FocusDecisions
    index: int = 0
    title: str = ""


def save_focus_picture(path: str | os.PathLike, rows: Sequence[FocusRow]) -> Path:
    """Writes a PNG: a row per image, its crops in order, then what was seen step by step.

    Args:
        path: of the PNG; its folder is created.
        rows: the images, top to bottom, of one network.

    Returns:
        ``path``.

    Raises:
        UserError: matplotlib is not installed.
        ValueError: ``rows`` is empty.
    """
    if not rows:
        raise ValueError("rows must hold at least one image, got none")
    steps = rows[0].decisions.confidences.shape[1]
    heights = [max(WIDTH, WIDTH * row.image.shape[0] / row.image.shape[1]) for row in rows]
    width = (WIDTH + GAP) * (steps + 1) + GAP
    canvas, top = Canvas(width, sum(heights) + (TITLE + GAP) * len(rows)), 0.0
    for row, height in zip(rows, heights, strict=True):
        top += TITLE
        places = [GAP + column * (WIDTH + GAP) for column in range(steps + 1)]
        _draw_image(canvas.panel(places[0], top, height, WIDTH), row)
        for step in range(int(row.decisions.steps[row.index])):
            _draw_step(canvas.panel(places[step + 1], top, height, WIDTH), row, step)
        top += height + GAP
    return canvas.save(path)


def _draw_image(axes, row: FocusRow) -> None:
    show(axes, row.image)
    boxes = row.decisions.boxes[row.index].tolist()
    for step in range(1, int(row.decisions.steps[row.index])):
        colour = COLOURS[step % len(COLOURS)]
        draw_box(axes, boxes[step], edgecolor="black", linewidth=2.4, alpha=0.6)
        draw_box(axes, boxes[step], edgecolor=colour, linewidth=1.4)
        corner = boxes[step][0] + 0.5, boxes[step][1] + 0.5
        axes.text(*corner, str(step + 1), fontsize=7, color=colour, va="top", clip_on=True)
    set_title(axes, row.title)


def _draw_step(axes, row: FocusRow, step: int) -> None:
    decisions, patch = row.decisions, row.decisions.patch
    if step:
        left, top, right, bottom = decisions.boxes[row.index, step].tolist()
        seen = row.image[top:bottom, left:right]
    else:
        whole = torch.from_numpy(np.ascontiguousarray(row.image)).permute(2, 0, 1)[None].float()
        small = glance(whole, patch).round().clamp(0, 255).byte()[0]
        seen = small.permute(1, 2, 0).numpy()
    show(axes, seen)
    name = f"{step + 1}" if step else "glance"
    text = f"{name}: {float(decisions.confidences[row.index, step]):.2f}"
    set_title(axes, f"{text}, stops" if step + 1 == int(decisions.steps[row.index]) else text)
    for spine in axes.spines.values():
        spine.set_edgecolor(COLOURS[step % len(COLOURS)])
    axes.set_frame_on(step > 0)
