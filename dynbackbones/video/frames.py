"""Frames of a video file, a folder of pictures or a camera, one after the other."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dynbackbones.data.images import EXTENSIONS, cv2_name, is_image
from dynbackbones.errors import UserError
from dynbackbones.video.flow import import_cv2


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        image: (H, W, 3) uint8, RGB; None where it cannot be read.
        seconds: since the start; None where nothing tells.
        name: of its file, or its number.
    """

    image: np.ndarray | None
    seconds: float | None = None
    name: str = ""


def frames(source: str | os.PathLike | int | Sequence[str | os.PathLike]) -> Iterator[Frame]:
    """The frames of a video, read when they are asked for.

    Rotation that a file asks for is applied, by OpenCV. Pictures are taken in the order of the
    numbers in their names (``frame2`` before ``frame10``); one that cannot be read gives a frame
    without an image. A file that is cut off gives what decodes; its own count of frames is not
    believed.

    Args:
        source: a video file, a folder of pictures, a list of pictures in their order, or the number
            of a camera.

    Raises:
        UserError: there is no such file, nothing in it can be decoded, or the folder has no
            picture.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> import dynbackbones
        >>> folder = Path(tempfile.mkdtemp())
        >>> for number in (10, 9):
        ...     Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / f"frame{number}.png")
        >>> [frame.name for frame in dynbackbones.video.frames(folder)]
        ['frame9.png', 'frame10.png']
    """
    if isinstance(source, int):
        return _decoded(source, f"camera {source}")
    if not isinstance(source, str | os.PathLike):
        return _pictures([Path(path) for path in source], "the list of frames")
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.iterdir() if is_image(p.name)]
        return _pictures(sorted(found, key=_numbers), f"folder {path}")
    if not path.is_file():
        raise UserError(f"video {path} does not exist; give a video file or a folder of pictures")
    if is_image(path.name):
        return _pictures([path], f"picture {path}")
    return _decoded(cv2_name(path), f"video {path}")


def _numbers(path: Path) -> tuple[Any, ...]:
    """What names are sorted by: numbers in them as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return tuple((int(part), part) if part.isdigit() else (0, part) for part in parts)


def _pictures(paths: Sequence[Path], title: str) -> Iterator[Frame]:
    if not paths:
        raise UserError(f"{title} has no picture ({', '.join(EXTENSIONS)})")
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{title}: picture {missing[0]} does not exist")
    return (Frame(_picture(path), None, path.name) for path in paths)


def _picture(path: Path) -> np.ndarray | None:
    cv2 = import_cv2()
    # By way of bytes, since OpenCV cannot open every name.
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError:
        return None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    return None if image is None else image[:, :, ::-1]


def _decoded(source: str | int, title: str) -> Iterator[Frame]:
    cv2 = import_cv2()
    capture = cv2.VideoCapture(source)
    fine, image = capture.read() if capture.isOpened() else (False, None)
    if not fine:
        capture.release()
        if isinstance(source, int):
            raise UserError(f"{title} gives no frame: it is not there, or another program has it")
        raise UserError(
            f"{title} gives no frame: it is empty, damaged, or of a format that OpenCV cannot "
            "decode; try: ffmpeg -i FILE -pix_fmt yuv420p other.mp4"
        )
    return _remaining(capture, image)


def _remaining(capture: Any, image: np.ndarray) -> Iterator[Frame]:
    cv2 = import_cv2()
    number, fine = 0, True
    try:
        while fine:
            seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield Frame(image[:, :, ::-1], seconds, str(number))
            fine, image = capture.read()
            number += 1
    finally:
        capture.release()


def sampled(source: Iterable[Frame], rate: float) -> Iterator[Frame]:
    """Some frames of a video by their times, whatever their distance; all where nothing tells it.

    Args:
        source: frames with ``seconds``; times that do not rise are ignored with a warning, and the
            frame's time is taken to be the one before.
        rate: frames in a second, of which there is at most one in each such part of time.

    Raises:
        UserError: the rate is not positive.
    """
    if not 0 < rate < float("inf"):
        raise UserError(f"rate of frames must be positive, got {rate}")
    due, last, warned = 0.0, float("-inf"), False
    for frame in source:
        if frame.seconds is None:
            yield frame
            continue
        if frame.seconds <= last and not warned:
            warned = True
            warnings.warn(
                f"the time of frame {frame.name}, {frame.seconds:.3f} s, is not after the one "
                "before; such frames count as if they came with it",
                stacklevel=2,
            )
        last = max(last, frame.seconds)
        if last >= due - 1e-6:
            due = (math.floor(last * rate + 1e-6) + 1) / rate
            yield frame


def frame_rate(source: str | os.PathLike | int | Sequence[str | os.PathLike]) -> float:
    """Frames in a second, as a video file says; 25 where nothing does."""
    if isinstance(source, str | os.PathLike) and Path(source).is_file():
        cv2 = import_cv2()
        capture = cv2.VideoCapture(cv2_name(source))
        rate = capture.get(cv2.CAP_PROP_FPS)
        capture.release()
        if 1 <= rate <= 240:
            return float(rate)
    return 25.0


def frame_count(source: str | os.PathLike | int | Sequence[str | os.PathLike]) -> int | None:
    """About how many frames there are: pictures, or what a video file says; None of a camera."""
    if isinstance(source, int):
        return None
    if not isinstance(source, str | os.PathLike):
        return len(source)
    path = Path(source)
    if path.is_dir():
        return sum(is_image(p.name) for p in path.iterdir())
    if is_image(path.name):
        return 1
    cv2 = import_cv2()
    capture = cv2.VideoCapture(cv2_name(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return count if count > 0 else None
