"""Configs that come with the package: commands find them from any folder.

The documents come with it too.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dynbackbones.errors import UserError

FOLDER = "configs"
_SUFFIXES = (".yaml", ".py", ".md")


def shipped_folder(name: str = FOLDER) -> Path:
    """The folder of our configs (or ``"docs"``): in the installed package, beside it in a checkout.

    Raises:
        UserError: there is none.
    """
    package = Path(__file__).parents[1]
    for place in (package, package.parent):
        if any((place / name).glob("*.md")):
            return place / name
    raise UserError(f"{package} has come without its {name}; install dynbackbones again")


def shipped_configs() -> list[Path]:
    """Their files, relative to `shipped_folder`; ``_base_`` parts and the README too."""
    folder = shipped_folder()
    return sorted(
        path.relative_to(folder) for path in folder.rglob("*") if path.suffix in _SUFFIXES
    )


def find_config(path: str | os.PathLike, *, base_of: str | os.PathLike | None = None) -> str:
    """The file that is meant by a config's path, such as ``configs/demo/sar_retinanet.yaml``.

    An existing file always counts; else one of ours, if the path begins with ``configs/``, which
    is then said.

    Args:
        path: as somebody has written it.
        base_of: the config that names ``path`` as its base, relative to itself.

    Returns:
        An existing file; or, where there is none, the path that should have existed.
    """
    wanted = os.path.expanduser(path)
    local = wanted if base_of is None else os.path.join(os.path.dirname(base_of), wanted)
    parts = Path(os.path.normpath(wanted)).parts
    if not os.path.exists(local) and parts[:1] == (FOLDER,):
        ours = shipped_folder().joinpath(*parts[1:])
        if ours.is_file():
            print(f"config {os.fspath(path)}: {ours}, as there is none here", flush=True)
            return str(ours)
    return local


def copy_configs(target: str | os.PathLike) -> int:
    """Copies all configs into a folder, in the same order below it; overwrites nothing.

    Returns:
        The number of files.

    Raises:
        UserError: a file is there already, or the folder cannot be written; nothing was copied in
            the first case.
    """
    target, names = Path(target), shipped_configs()
    there = next((target / name for name in names if os.path.lexists(target / name)), None)
    if there is not None:
        raise UserError(f"{there} exists and is not overwritten; name another folder")
    try:
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(shipped_folder() / name, target / name)
    except OSError as error:
        raise UserError(
            f"{error.filename or target} cannot be written: {error.strerror}"
        ) from error
    return len(names)
