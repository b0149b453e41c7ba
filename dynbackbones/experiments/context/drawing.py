"""The pixel variant as a picture: what is drawn of an unseen patch, epoch by epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from dynbackbones.analysis.canvas import GAP, Canvas, set_title, show
from dynbackbones.demo.shapes import KINDS
from dynbackbones.experiments.context.frozen import train_context
from dynbackbones.experiments.context.shapes import (
    PIXELS,
    SCHEDULE,
    TRAIN,
    pixel_targets,
    shapes,
)

WIDTH, TITLE = 1.1, 0.3  # inches, of a panel and above it
# After which predictions are drawn; without offsets after the last alone.
EPOCHS = (1, 5, 25, SCHEDULE.epochs)


def draw(path: Path, seed: int) -> Path:
    """Trains with and without offsets to predict pixels, and draws a test pair of each kind."""
    made = shapes(seed)
    pairs, kinds = pixel_targets(made), made.kinds[TRAIN:]
    train, test = pairs.part(slice(TRAIN)), pairs.part(slice(TRAIN, None))
    columns = {"target": test.targets}
    for use_offset in (True, False):
        kept = EPOCHS if use_offset else EPOCHS[-1:]
        title = f"pixels, seed {seed}, {'with' if use_offset else 'without'} offsets"
        trained, shown = train_context(
            train, test, SCHEDULE, seed=seed, title=title, use_offset=use_offset, kept=kept
        )
        note = "" if use_offset else ", no offset"
        for epoch, predicted in shown.items():
            columns[f"epoch {epoch}{note}"] = trained.scaling.inverse(predicted)
    _save(path, columns, [int((kinds == kind).nonzero()[0]) for kind in range(len(KINDS))])
    return path


def _save(path: Path, columns: dict[str, Tensor], rows: list[int]) -> None:
    width = (WIDTH + GAP) * len(columns) + GAP
    canvas = Canvas(width, TITLE + (WIDTH + GAP) * len(rows))
    for column, (title, pixels) in enumerate(columns.items()):
        for row, index in enumerate(rows):
            place = GAP + column * (WIDTH + GAP), TITLE + row * (WIDTH + GAP)
            panel = canvas.panel(*place, WIDTH, WIDTH)
            grey = pixels[index].reshape(PIXELS, PIXELS).clamp(0, 1).numpy()
            show(panel, np.repeat((255 * grey).astype(np.uint8)[..., None], 3, axis=2))
            if row == 0:
                set_title(panel, title)
    canvas.save(path)
