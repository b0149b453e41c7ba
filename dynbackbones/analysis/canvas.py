"""A page of panels, and what is drawn into them: images, boxes, labels."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dynbackbones.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_WIDTH = 4.0  # inches; sizes below are inches too
TITLE_HEIGHT = 0.5
HEADER_HEIGHT = 0.3
CAPTION_HEIGHT = 0.4
GAP = 0.12
DPI = 110


class Canvas:
    """A figure with places in inches from its upper left corner.

    It is made without pyplot, so it needs no display and leaves the user's settings alone.
    """

    def __init__(self, width: float, height: float) -> None:
        figure = import_matplotlib("matplotlib.figure")
        self.figure = figure.Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        self.width, self.height = width, height

    def panel(self, left: float, top: float, height: float, width: float = PANEL_WIDTH) -> Axes:
        bottom = self.height - top - height
        return self.figure.add_axes(
            (
                left / self.width,
                bottom / self.height,
                width / self.width,
                height / self.height,
            )
        )

    def text(self, left: float, top: float, text: str, **style) -> None:
        self.figure.text(left / self.width, 1 - top / self.height, text, va="top", **style)

    def save(self, path: str | Path) -> Path:
        """Writes it as a PNG, whose folder is made."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.figure.savefig(path, format="png")
        return path


def import_matplotlib(module: str):
    """A module of matplotlib, which the package itself does without.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"pictures need matplotlib ({error}): pip install 'dynbackbones[demo]'"
        ) from error


def draw_box(axes: Axes, box: Sequence[float], **style) -> None:
    """The outline of ``x1, y1, x2, y2`` in pixels of the shown image."""
    patches = import_matplotlib("matplotlib.patches")
    x1, y1, x2, y2 = box
    # Pixel i covers i - 0.5 to i + 0.5 in a shown image.
    corner = (x1 - 0.5, y1 - 0.5)
    axes.add_patch(patches.Rectangle(corner, x2 - x1, y2 - y1, fill=False, **style))


def draw_label(
    axes: Axes, box: Sequence[float], text: str, colour: str, image_shape: tuple[int, ...]
) -> None:
    """A text at a box, above it where there is room."""
    x1, y1, _, y2 = box
    points_per_pixel = 72 * PANEL_WIDTH / image_shape[1]
    fits_above = y1 * points_per_pixel > 11
    axes.annotate(
        text,
        (x1 - 0.5, y1 - 0.5 if fits_above else y2 - 0.5),
        xytext=(1.5, 3 if fits_above else -3),
        textcoords="offset points",
        va="bottom" if fits_above else "top",
        fontsize=7,
        color="black",
        bbox={"boxstyle": "square,pad=0.15", "facecolor": colour, "edgecolor": "none"},
        annotation_clip=False,
        clip_on=True,
    )


def show(axes: Axes, image: np.ndarray) -> None:
    """An image without axes."""
    axes.imshow(image, interpolation="nearest" if image.shape[1] < 400 else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_frame_on(False)


def set_title(axes: Axes, text: str) -> None:
    """A small title at the left."""
    axes.set_title(text, fontsize=8, loc="left", pad=4, linespacing=1.3)
