"""Frames with what a stream says of them, above a strip that shows which were computed."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.data.images import import_cv2
from dynbackbones.video.decisions import FrameDecision

STRIP_HEIGHT = 44  # pixels: a line of text, and the frames below it
_TEXT_HEIGHT = 24
_SMALLEST_SIDE = 320  # pixels: smaller frames are enlarged, for texts to fit
_OVERLAY = 0.5  # of the classes' colours over a frame
_CELL = 4  # pixels of a frame in a strip without an end
GROUND, COMING, MOVED, LOST, KEY = range(5)
# By these levels; where several frames share a column the highest one shows.
COLOURS = np.array(
    [(20, 22, 32), (40, 43, 56), (78, 86, 112), (210, 50, 70), (255, 186, 30)], np.uint8
)
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Look:
    """How results are drawn.

    Attributes:
        class_names: by label; a label without a name shows its number.
        palette: (n, 3) uint8 by label; beyond it, generated colours.
        score_threshold: of boxes.
    """

    class_names: Sequence[str] = ()
    palette: Sequence[Sequence[int]] = field(default=())
    score_threshold: float = 0.5

    def colours(self, count: int) -> np.ndarray:
        """(count, 3) uint8."""
        given = [tuple(colour) for colour in self.palette][:count]
        # Hues far from those before.
        made = [colorsys.hsv_to_rgb(0.618 * i % 1, 0.75, 1) for i in range(len(given), count)]
        made = [tuple(round(255 * part) for part in colour) for colour in made]
        return np.array([*given, *made], np.uint8).reshape(count, 3)

    def name(self, label: int) -> str:
        """What a label is called."""
        return self.class_names[label] if label < len(self.class_names) else str(label)


def enlargement(size: tuple[int, int]) -> int:
    """How many times larger a frame of (height, width) is drawn."""
    return max(1, -(-_SMALLEST_SIDE // min(size)))


def draw_result(image: np.ndarray, result: Prediction | Tensor, look: Look) -> np.ndarray:
    """A frame with boxes and their scores, or overlaid with the colours of its classes.

    Args:
        image: (H, W, 3) uint8, RGB.
        result: what was found, or (H, W) labels.
        look: how it is drawn.

    Returns:
        (H n, W n, 3) uint8 with the n of `enlargement`.
    """
    cv2 = import_cv2()
    scale = enlargement(image.shape[:2])
    size = (image.shape[1] * scale, image.shape[0] * scale)
    drawn = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_LINEAR)
    if isinstance(result, Prediction):
        _draw_boxes(drawn, result, look, scale)
        return drawn
    labels = result.cpu().numpy()
    colours = look.colours(int(labels.max(initial=0)) + 1)[labels]
    colours = cv2.resize(colours, size, interpolation=cv2.INTER_NEAREST)
    return cv2.addWeighted(drawn, 1 - _OVERLAY, colours, _OVERLAY, 0)


def draw_strip(
    width: int, levels: Sequence[int], total: int | None, marks: Sequence[int], text: str
) -> np.ndarray:
    """A line of text above one column or more for each frame, bright where it was computed.

    Args:
        width: pixels.
        levels: of the frames so far, of `level_of`.
        total: frames that there will be; None if nothing tells: then the latest ones are shown.
        marks: frames that are pointed at.
        text: above them.

    Returns:
        (STRIP_HEIGHT, width, 3) uint8.
    """
    cv2 = import_cv2()
    strip = np.empty((STRIP_HEIGHT, width, 3), np.uint8)
    strip[:] = COLOURS[GROUND]
    cv2.putText(strip, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _WHITE, 1, cv2.LINE_AA)
    shown, count = np.asarray(levels), max(total or 0, len(levels))
    if total is None:
        count = max(width // _CELL, 1)
        marks = [mark - max(len(levels) - count, 0) for mark in marks]
        shown = shown[-count:]
    strip[_TEXT_HEIGHT:-4] = COLOURS[_columns(width, shown, count)]
    for mark in marks:
        if 0 <= mark < count:
            x = round((mark + 0.5) * width / count)
            cv2.line(strip, (x, _TEXT_HEIGHT - 3), (x, STRIP_HEIGHT - 1), _WHITE, 1)
            corners = np.array([[x - 4, _TEXT_HEIGHT - 6], [x + 4, _TEXT_HEIGHT - 6],
                                [x, _TEXT_HEIGHT]])  # fmt: skip
            cv2.fillConvexPoly(strip, corners, _WHITE)
    return strip


def level_of(decision: FrameDecision) -> int:
    """How bright a frame is in a strip."""
    if decision.reason == "unreadable":
        return LOST
    return KEY if decision.key else MOVED


def describe(decision: FrameDecision) -> str:
    """What was done for a frame, in a few words."""
    if decision.key:
        return f"frame {decision.index}: computed ({decision.reason})"
    return f"frame {decision.index}: {decision.reason}, age {decision.age}"


def fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image in the middle of a frame of another size (height, width), as large as fits."""
    cv2 = import_cv2()
    scale = min(wanted / given for wanted, given in zip(size, image.shape, strict=False))
    height, width = (
        max(1, min(round(given * scale), wanted))
        for wanted, given in zip(size, image.shape, strict=False)
    )
    canvas = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    canvas[top : top + height, left : left + width] = image
    return canvas


def picture(
    frames: Sequence[tuple[int, str, np.ndarray]], levels: Sequence[int], text: str
) -> np.ndarray:
    """Some frames of a clip side by side, above a strip of all.

    Args:
        frames: number, caption and drawn frame of each, in their order.
        levels: of all frames.
        text: of the strip.

    Returns:
        (H, W, 3) uint8.
    """
    cv2 = import_cv2()
    size, gap, panels = frames[0][2].shape[:2], 6, []
    for index, caption, drawn in frames:
        panel = np.full((size[0] + _TEXT_HEIGHT, size[1] + gap, 3), COLOURS[GROUND], np.uint8)
        colour = tuple(int(part) for part in COLOURS[levels[index]])
        colour = colour if levels[index] == KEY else _WHITE
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(panel, caption, (6, 16), font, 0.42, colour, 1, cv2.LINE_AA)
        panel[_TEXT_HEIGHT:, : size[1]] = fitted(drawn, size)
        panels.append(panel)
    row = np.concatenate(panels, axis=1)
    marks = [index for index, _, _ in frames]
    return np.concatenate([row, draw_strip(row.shape[1], levels, len(levels), marks, text)])


def _columns(width: int, levels: np.ndarray, count: int) -> np.ndarray:
    """(width,) the level of each column, for ``count`` frames of which some are still to come."""
    if count <= width:
        of_frame = np.full(count, COMING)
        of_frame[: len(levels)] = levels
        return of_frame[np.arange(width) * count // width]
    columns = np.full(width, COMING)
    np.maximum.at(columns, np.arange(len(levels)) * width // count, levels)
    return columns


def _draw_boxes(drawn: np.ndarray, found: Prediction, look: Look, scale: int) -> None:
    cv2 = import_cv2()
    found = found.above(look.score_threshold)
    colours = look.colours(int(found.labels.max()) + 1 if len(found.labels) else 0)
    for box, score, label in zip(
        (found.boxes * scale).round().int().tolist(),
        found.scores.tolist(),
        found.labels.tolist(),
        strict=True,
    ):
        colour = tuple(int(part) for part in colours[label])
        x1, y1, x2, y2 = box
        cv2.rectangle(drawn, (x1, y1), (x2, y2), colour, 2)
        text, font = f"{look.name(label)} {score:.2f}", cv2.FONT_HERSHEY_SIMPLEX
        (width, height), _ = cv2.getTextSize(text, font, 0.42, 1)
        bottom = y1 if y1 > height + 6 else y2 + height + 6
        left = max(min(x1, drawn.shape[1] - width - 4), 0)
        cv2.rectangle(drawn, (left, bottom - height - 6), (left + width + 4, bottom), colour, -1)
        cv2.putText(drawn, text, (left + 2, bottom - 4), font, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
