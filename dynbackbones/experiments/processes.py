"""Commands in processes of their own, which end when the process that started them does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from dynbackbones.errors import UserError

OUTPUT = "output.txt"
"""What a command printed, in its folder."""

_SCRIPT = """
from dynbackbones.experiments.processes import end_with_parent
end_with_parent()
{call}
"""
_COMMAND = """
from dynbackbones.cli.main import main
main({command!r})
"""
_running: set[subprocess.Popen] = set()


def run_command(
    command: str, arguments: Sequence[str], folder: Path, *, threads: int | None = None
) -> float:
    """Runs ``dynbackbones COMMAND``; what it prints is appended to ``output.txt``.

    Args:
        command: such as ``"train"``.
        arguments: behind it.
        folder: for the output.
        threads: of the process; by default what the environment says.

    Returns:
        Seconds of processor time.

    Raises:
        UserError: the command failed.
    """
    return run_script(_COMMAND.format(command=command), arguments, folder, threads=threads)


def run_script(
    call: str, arguments: Sequence[str], folder: Path, *, threads: int | None = None
) -> float:
    """The same with lines of Python in place of a command."""
    log = folder / OUTPUT
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    words = [sys.executable, "-c", _SCRIPT.format(call=call), *arguments]
    with open(log, "a", encoding="utf-8") as file:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment
        )
        _running.add(process)
        try:
            # In place of `wait`: with several children at once, theirs cannot be told apart later.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            _running.discard(process)
            process.stdin.close()
    if process.returncode:
        raise UserError(
            f"training of cell {folder} ended with exit code {process.returncode}{_reason(log)}; "
            f"see {log}, then run the same command again"
        )
    return usage.ru_utime + usage.ru_stime


def end_all() -> None:
    """Ends what is running, for a program that was interrupted."""
    for process in list(_running):
        # Not `process.kill()`, which would take the exit status from who waits for it.
        os.kill(process.pid, signal.SIGKILL)


def end_with_parent() -> None:
    """Ends this process as soon as the one that started it is gone, even if it was killed.

    Else a training would go on, and a second one would be started beside it.
    """

    def watch() -> None:
        while os.read(0, 1):  # the parent writes nothing: this is the end of the pipe
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _reason(log: Path) -> str:
    """The error in the last line of a command's output, if it is one of the user's."""
    last = (log.read_text(encoding="utf-8", errors="replace").splitlines() or [""])[-1]
    return f" ({last.removeprefix('error: ')})" if last.startswith("error: ") else ""
