"""One run in one folder: two that write into the same one would mix their files."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dynbackbones.checkpoints.whole_file import refused, remove_partial
from dynbackbones.errors import UserError

LOCK = ".running"
"""Name of the lock: a file that says who runs, and that the system unlocks when that ends."""


@contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Keeps other runs out of a folder, which is made where it is not there.

    The lock is the system's, on the file: it goes with its process, however that ends, on this
    machine or another with the same file system, and not with processes that were forked from it.
    What a killed run left half-written is removed.

    Args:
        folder: of the run; only one process of the run locks it. It goes again if it is still
            empty at the end.

    Raises:
        UserError: another run is there, or nothing can be written there.
    """
    folder = Path(folder)
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(folder / LOCK)
    except OSError as error:
        mistake = refused(error, folder)
        if mistake is None:
            raise
        raise mistake from error
    try:
        remove_partial(folder)
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        os.close(descriptor)
        with suppress(OSError):  # something is in them
            for path in absent:
                path.rmdir()


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor, path)
            # Whoever had it may have removed the file meanwhile: then it locks nobody out.
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        # Not flock, which loader processes would inherit and keep when their parent is killed.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        who = os.read(descriptor, 200).decode(errors="replace") or "another process"
        raise UserError(
            f"folder {path.parent} is in use by another run ({who}): wait until that has ended, or "
            "name another folder"
        ) from error
    except OSError:
        # A file system without locks: as if nobody else were there.
        return
