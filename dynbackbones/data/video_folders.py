"""Videos in class folders, ``FOLDER/CLASS/VIDEO``: files, or folders of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dynbackbones.data.class_folders import find_classes
from dynbackbones.data.images import is_hidden, is_image
from dynbackbones.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".wmv", ".flv",
                  ".3gp", ".ts")  # fmt: skip


class FolderVideo(NamedTuple):
    """A video of a class folder.

    Attributes:
        path: of the file or the folder of pictures.
        name: ``CLASS/VIDEO``, without a file's suffix.
        label: number of the class.
    """

    path: Path
    name: str
    label: int


def find_videos(
    folder: str | os.PathLike, classes: Sequence[str] | None = None
) -> tuple[list[FolderVideo], tuple[str, ...]]:
    """The videos of all class folders, in the order of their labels and names.

    Args:
        folder: with a folder for each class.
        classes: names that its class folders must have; any if None.

    Returns:
        The videos, and the names of the classes.

    Raises:
        UserError: the folder is missing, has fewer than two class folders or others than
            ``classes``, a class has no video, or two videos would have one name.
    """
    root = Path(folder)
    found = find_classes(root.parent, root.name, "video", "name another folder")
    if classes is not None and found != tuple(classes):
        wrong = sorted(set(found) ^ set(classes))[:3]
        raise UserError(
            f"folder {root} has other class folders ({', '.join(wrong)}) than the first one; all "
            "must have the same"
        )
    videos: dict[str, FolderVideo] = {}
    for label, name in enumerate(found):
        paths = sorted(path for path in (root / name).iterdir() if _is_video(path))
        if not paths:
            raise UserError(
                f"class folder {root / name} has no video: no file with one of "
                f"{', '.join(VIDEO_SUFFIXES)}, and no folder of pictures"
            )
        for path in paths:
            video = f"{name}/{path.name if path.is_dir() else path.stem}"
            if video in videos:
                raise UserError(
                    f"{videos[video].path} and {path} would both be {video}; rename one"
                )
            videos[video] = FolderVideo(path, video, label)
    return list(videos.values()), found


def _is_video(path: Path) -> bool:
    if is_hidden(path.name):
        return False
    if path.is_dir():
        return any(is_image(entry.name) for entry in path.iterdir())
    return path.suffix.lower() in VIDEO_SUFFIXES
