"""Video files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from dynbackbones.checkpoints.whole_file import refused
from dynbackbones.data.images import cv2_name
from dynbackbones.errors import UserError
from dynbackbones.video.flow import import_cv2
from dynbackbones.video.pictures import fitted

# By the ending of the name; OpenCV's own encoders, which every build has.
CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


@contextmanager
def whole_video(path: str | os.PathLike, rate: float) -> Iterator[VideoFile]:
    """A video to add frames to, which has its name once it is whole.

    Args:
        path: ending in one of `CODECS`; missing folders are made.
        rate: frames in a second.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.partial{path.suffix}")
    file = VideoFile(partial, rate, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield file
        file.close()
        os.replace(partial, path)
    except OSError as error:
        other = UserError(f"{path} cannot be written: {error.strerror}; name another file")
        raise refused(error, path) or other from error
    finally:
        file.release()
        with suppress(OSError):
            partial.unlink(missing_ok=True)


class VideoFile:
    """A video under way; its first frame says how large it is, and later ones are fitted to that.

    Args:
        path: where to.
        rate: frames in a second.
        title: what it is called in errors.
    """

    def __init__(self, path: Path, rate: float, title: Path) -> None:
        self.frames = 0
        self._path, self._rate, self._title = path, rate, title
        self._size: tuple[int, int] | None = None
        self._writer: Any = None

    def add(self, image: np.ndarray) -> None:
        """Adds an (H, W, 3) uint8 RGB frame.

        Raises:
            UserError: the file cannot be opened.
        """
        if self._size is None:
            # Encoders want even sizes.
            self._size = tuple(length + length % 2 for length in image.shape[:2])
            self._open(self._size)
        if image.shape[:2] != self._size:
            image = fitted(image, self._size)
        self._writer.write(np.ascontiguousarray(image[:, :, ::-1]))
        self.frames += 1

    def close(self) -> None:
        """Ends the file.

        Raises:
            UserError: fewer frames are in it than were added, or none was.
        """
        self.release()
        cv2 = import_cv2()
        there = 0
        if self._path.is_file():
            written = cv2.VideoCapture(str(self._path))
            there = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
            written.release()
        if not there or there < self.frames:
            raise UserError(
                f"{self._title} cannot be written: {there} of {self.frames} frames are in it; make "
                "room, or name a file in another folder"
            )

    def release(self) -> None:
        """Lets the encoder go."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def _open(self, size: tuple[int, int]) -> None:
        cv2 = import_cv2()
        codec = cv2.VideoWriter_fourcc(*CODECS[self._path.suffix])
        self._writer = cv2.VideoWriter(cv2_name(self._path), codec, self._rate, size[::-1])
        if not self._writer.isOpened():
            raise UserError(
                f"{self._title} cannot be written: name a file in a folder that can be written, or "
                f"of another kind ({', '.join(CODECS)})"
            )
