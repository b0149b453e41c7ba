"""Environments of Python made for a test."""

import subprocess
import sys
import sysconfig
from collections.abc import Collection
from importlib.metadata import Distribution
from pathlib import Path


def make(folder: Path) -> Path:
    """An environment with nothing in it.

    Returns:
        Its interpreter.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


def without(packages: Collection[str], folder: Path) -> Path:
    """The environment that runs this, less some packages; links to the others are what it is of.

    Args:
        packages: names to import.
        folder: where to make it.

    Returns:
        Its interpreter.
    """
    python = make(folder)
    (target,) = folder.glob("lib/python*/site-packages")
    for source in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(source).iterdir():
            if not _belongs(entry, packages):
                (target / entry.name).symlink_to(entry)
    return python


def _belongs(entry: Path, packages: Collection[str]) -> bool:
    """Whether something in site-packages is of one of the packages."""
    if entry.suffix != ".dist-info":
        return entry.name.split(".")[0] in packages
    files = Distribution.at(entry).files or ()
    return any(file.parts[0].split(".")[0] in packages for file in files)
