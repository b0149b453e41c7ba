"""Class folders, ``ROOT/SPLIT/CLASS/*.jpg``: the layout of ImageNet.

Names and numbers of classes are the folders', but for those that tools hide. Missing classes are
found before training starts.
"""

import os
from pathlib import Path

from dynbackbones.data.images import is_hidden, is_image
from dynbackbones.errors import UserError

_SHOWN = 3


def find_classes(
    root: str | os.PathLike, split: str, what: str = "image", remedy: str = "change data_root"
) -> tuple[str, ...]:
    """Names of a split's class folders, in the order of their labels.

    Args:
        root, split: the folder, and that of the split in it.
        what: class folders hold.
        remedy: for a folder that is missing.

    Raises:
        UserError: the folder is missing, or there are fewer than two class folders in it.
    """
    folder = Path(root, split)
    if not folder.is_dir():
        raise UserError(
            f"{what} folder {folder} does not exist; put the dataset (or a link to it) there, or "
            f"{remedy}"
        )
    names = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name)
    )
    if len(names) < 2:
        raise UserError(
            f"{what} folder {folder} has {len(names)} class folders; it must hold a folder of "
            f"{what}s for each class, at least two"
        )
    return tuple(names)


def check_classes(root: str | os.PathLike, split: str, classes: tuple[str, ...]) -> None:
    """Makes sure that a split has these classes and no other, each with an image.

    Raises:
        UserError: classes are missing, empty or unknown; names the first few.
    """
    found = find_classes(root, split)
    folder = Path(root, split)
    for wrong, what in (
        ([name for name in classes if name not in set(found)], "missing"),
        ([name for name in found if name not in set(classes)], "unknown in training"),
        ([name for name in found if not _has_image(folder / name)], "without any image"),
    ):
        if wrong:
            shown = ", ".join(wrong[:_SHOWN]) + (", ..." if len(wrong) > _SHOWN else "")
            raise UserError(
                f"image folder {folder}: {len(wrong)} of {len(classes)} classes are {what} "
                f"({shown}); complete the dataset, or take these classes out of every split"
            )


def _has_image(folder: Path) -> bool:
    return any(
        is_image(os.path.relpath(os.path.join(parent, name), folder))
        for parent, _, names in os.walk(folder)
        for name in names
    )
