"""Files that are there whole or not at all, whenever a process that writes one is killed."""

from __future__ import annotations

import errno
import json
import os
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from dynbackbones.errors import UserError

_PARTIAL = ".partial"
# How files of torch before 1.6 begin, which nothing tells a whole one from a part of.
_OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# What the system says where nothing can be written; all else is a defect.
_REFUSALS = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "make room, or raise the limit of a file's size",
    errno.EROFS: "name another folder",
    errno.EACCES: "name another folder, or allow writing there",
    errno.EPERM: "name another folder, or allow writing there",
    errno.EIO: "the disk is damaged or gone: name another folder",
}
# What it says of a path that names no file; elsewhere such errors are defects, too.
_NO_FILES = {
    errno.ENOTDIR: "a folder in it is a file: name another one",
    errno.EEXIST: "a folder in it is a file: name another one",
    errno.EISDIR: "name a file in it",
    errno.ENAMETOOLONG: "shorten the name",
    errno.ELOOP: "a link in it leads to itself: name another file",
}


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write into, which has its name once it is whole and on the disk.

    What stood under the name stays until then, and stays if the block fails.

    Args:
        path: where to; missing folders are made.

    Raises:
        UserError: there is no room, writing is not allowed, or the path can be no file's.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        mistake = refused(error, path, _REFUSALS | _NO_FILES)
        if mistake is None:
            raise
        raise mistake from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, content: Any, indent: int | None = None) -> None:
    """Writes plain data as JSON, see `whole_file`."""
    with whole_file(path) as file:
        file.write(f"{json.dumps(content, indent=indent)}\n".encode())


def refused(
    error: BaseException, path: str | os.PathLike, remedies: Mapping[int, str] = _REFUSALS
) -> UserError | None:
    """What to tell of a file that could not be written; None if something else is at fault.

    Args:
        error: `OSError`, or one that was raised because of one, as torch does.
        path: of the file or its folder.
        remedies: for the system's numbers of errors that are nobody's defect.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in remedies:
            return UserError(
                f"{path} cannot be written: {os.strerror(cause.errno)}; {remedies[cause.errno]}"
            )
        cause = cause.__cause__ or cause.__context__
    return None


def is_whole(path: str | os.PathLike) -> bool:
    """Whether nothing of a file that torch wrote is missing or damaged, by its checksums."""
    try:
        with open(path, "rb") as file:
            if file.read(len(_OLD_MAGIC)) == _OLD_MAGIC:
                return True
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # what a damaged file makes a parser raise is anybody's guess
        return False


def is_cut_short(path: str | os.PathLike) -> bool:
    """Whether a file has a beginning of torch's, or none, and is not whole."""
    with open(path, "rb") as file:
        head = file.read(2)
    return head in (b"", b"PK") and not is_whole(path)


def remove_partial(folder: str | os.PathLike) -> None:
    """Removes what killed processes left half-written; nobody may be writing into the folder."""
    for partial in Path(folder).glob(f".*{_PARTIAL}"):
        with suppress(OSError):
            partial.unlink()


def _sync_folder(folder: Path) -> None:
    """Has a new name survive a power failure, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
