"""Features of videos in files, one for each video, and lists of them.

A file is NumPy's ``.npz`` with ``coarse`` (T, Dc) and ``fine`` (T, Df), floating-point, of the same
frames. A list is text with a line for each video, its name and its label: ``walking/clip3 0`` is
``walking/clip3.npz``, of class 0.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dynbackbones.checkpoints.whole_file import whole_file
from dynbackbones.data.array_files import read_arrays
from dynbackbones.data.images import leaves
from dynbackbones.errors import UserError

COARSE, FINE = "coarse", "fine"
SUFFIX = ".npz"


class ListedVideo(NamedTuple):
    """A line of a list.

    Attributes:
        name: of the video, that of its file without the suffix.
        label: its class.
    """

    name: str
    label: int


def read_list(path: str | os.PathLike, root: str | os.PathLike, num_classes: int) -> list:
    """The videos of a list, whose files are there.

    Args:
        path: of the list.
        root: folder of the files.
        num_classes: labels are 0 to ``num_classes - 1``.

    Returns:
        `ListedVideo` in the order of the lines.

    Raises:
        UserError: the list is not there or empty, a line is not a name and a label, a label is no
            class, or a name leads out of the folder or to no file; names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"list of videos {path} cannot be read: {error}") from error
    videos = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            videos.append(_listed(line, f"list of videos {path}, line {number}", root, num_classes))
    if not videos:
        raise UserError(
            f"list of videos {path} is empty; it needs a line for each video, its name and label"
        )
    return videos


def list_line(name: str, label: int) -> str:
    """The line of a video in a list.

    Raises:
        UserError: `read_list` would not read the name from it.
    """
    line = f"{name} {label}"
    read, _, _ = line.strip().rpartition(" ")
    if line.splitlines() != [line] or read.strip() != name or not _is_text(name):
        raise UserError(
            f"video {name!r}: a list cannot hold line breaks, blanks at the ends of a name, or "
            "what is no UTF-8; rename it"
        )
    return f"{line}\n"


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _listed(line: str, where: str, root: str | os.PathLike, num_classes: int) -> ListedVideo:
    name, _, text = line.strip().rpartition(" ")
    if not name or not text.lstrip("-").isdigit():
        raise UserError(f"{where} must be a name and a label, got {line.strip()!r}")
    name, label = name.strip(), int(text)
    if not 0 <= label < num_classes:
        raise UserError(
            f"{where}: label {label} is none of the classes 0 to {num_classes - 1}; correct it, or "
            "num_classes"
        )
    if leaves(root, name):
        raise UserError(f"{where}: video {name} is outside of {root}; set data_root")
    if not features_file(root, name).is_file():
        raise UserError(
            f"{where}: {features_file(root, name)} does not exist; write it with dynbackbones "
            "video-features, or take the line out"
        )
    return ListedVideo(name, label)


def features_file(root: str | os.PathLike, name: str) -> Path:
    """Where a video's features are."""
    return Path(root, name + SUFFIX)


def read_features(
    path: str | os.PathLike, coarse_channels: int | None = None, fine_channels: int | None = None
) -> dict[str, np.ndarray]:
    """All arrays of a file, of which `COARSE` and `FINE` are checked and float32.

    Args:
        path: of the file; it is read without running code.
        coarse_channels, fine_channels: that they must have; any if None.

    Raises:
        UserError: it cannot be read, lacks one, or one has another form or values that are not
            finite; names the file and the array.
    """
    arrays = read_arrays(path, "video features")
    for name, channels in ((COARSE, coarse_channels), (FINE, fine_channels)):
        _check(path, name, channels, arrays)
        arrays[name] = arrays[name].astype(np.float32)
    if len(arrays[COARSE]) != len(arrays[FINE]):
        raise UserError(
            f"video features {path}: {COARSE} has {len(arrays[COARSE])} frames and {FINE} "
            f"{len(arrays[FINE])}; write the file anew"
        )
    return arrays


def _check(
    path: str | os.PathLike, name: str, channels: int | None, arrays: Mapping[str, np.ndarray]
) -> None:
    values = arrays.get(name)
    if values is None:
        raise UserError(
            f"video features {path} lack the array {name}; they have "
            f"{', '.join(sorted(arrays)) or 'none'}"
        )
    if values.ndim != 2 or 0 in values.shape or not np.issubdtype(values.dtype, np.floating):
        raise UserError(
            f"video features {path}: {name} must be (frames, channels), floating-point and not "
            f"empty, got {values.shape} of {values.dtype}"
        )
    if channels not in (None, values.shape[1]):
        raise UserError(
            f"video features {path}: {name} has {values.shape[1]} channels instead of {channels}; "
            "encode all videos with the same networks, and set the model's channels to theirs"
        )
    if not np.isfinite(values).all():
        frame = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise UserError(
            f"video features {path}: {name} holds NaN or infinity, first in frame {frame}; leave "
            "damaged frames out"
        )


def write_features(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """Writes a file, which is there whole or not at all.

    Args:
        path: where to; missing folders are made.
        arrays: `COARSE`, `FINE`, and what else is to be kept of the video.

    Raises:
        UserError: there is no room, or writing is not allowed.
    """
    with whole_file(path) as file:
        np.savez(file, **arrays)
