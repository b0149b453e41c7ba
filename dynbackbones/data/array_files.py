"""Arrays in NumPy's ``.npz`` files, which are read whole or refused."""

from __future__ import annotations

import os
import zipfile

import numpy as np

from dynbackbones.errors import UserError

_END = 22
"""Bytes of an archive's last record, unless a comment follows; NumPy writes none."""
_MANY = 0xFFFF
"""Arrays that it does not count: other records do."""


def read_arrays(path: str | os.PathLike, kind: str) -> dict[str, np.ndarray]:
    """All arrays of a file, read without running code.

    Other than `numpy.load` it reads each member to its end. Only there an archive tells whether the
    bytes are those written, and a damaged header may ask for fewer.

    Args:
        path: of the file.
        kind: what it is called in errors, as in "image file".

    Raises:
        UserError: it is not there, damaged, no such file, or holds pickles; names it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_count(path, len(members))
            return {one.filename.removesuffix(".npy"): _array(archive, one) for one in members}
    except FileNotFoundError as error:
        raise UserError(f"{kind} {path} does not exist; put it there, or name another") from error
    except Exception as error:  # damaged archives raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{kind} {path} cannot be read as .npz without pickles ({reason}); copy it again, or "
            "make it anew"
        ) from error


def _check_count(path: str | os.PathLike, found: int) -> None:
    """Refuses a directory of which a damaged length hides a part, which `zipfile` lets pass."""
    with open(path, "rb") as file:
        file.seek(-_END, os.SEEK_END)
        end = file.read()
    said = int.from_bytes(end[10:12], "little")
    if end.startswith(b"PK\x05\x06") and said not in (found, _MANY):
        raise ValueError(f"it lists {found} of its {said} arrays")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read():
            raise ValueError(f"{member.filename} is longer than its header says")
    return array
