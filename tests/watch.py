"""What a call does outside of its own memory, as Python's audit events tell it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Beginnings of events by which something runs, or leaves the process.
_DOING = (
    *("compile", "exec", "import", "ctypes.", "code.", "cpython.run", "fcntl.", "ftplib.", "http."),
    *("mmap.", "os.", "poplib.", "pty.", "resource.", "shutil.", "signal.", "smtplib.", "socket."),
    *("sqlite3.", "subprocess.", "syslog.", "tempfile.", "urllib.", "webbrowser.", "winreg."),
)
_HARMLESS = ("os.listdir", "os.scandir", "os.walk")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_watching: list[list[str]] = []


def _hear(event: str, arguments: tuple) -> None:
    if not _watching:
        return
    if event == "open":
        path, _mode, flags = arguments
        if flags & _WRITING:
            _watching[-1].append(f"open {path} to write")
        else:
            _watching[-1].append(f"open {path}")
    elif event.startswith(_DOING) and event not in _HARMLESS:
        _watching[-1].append(f"{event} {arguments}"[:200])


# Hooks cannot be taken away again; this one sleeps but in the block below.
sys.addaudithook(_hear)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collects what is done inside the block; a list of texts, files that are read among them."""
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()
