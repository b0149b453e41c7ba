"""The user's own modules, which register what a config or command line names."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from dynbackbones.errors import UserError


def import_modules(names: Sequence[str]) -> None:
    """Imports modules, those of the current folder too, as ``python -m`` does.

    Importing a module again, in the same process, does nothing.

    Raises:
        UserError: one cannot be imported; says which and why.
    """
    folder = os.getcwd()
    if names and folder not in sys.path:
        sys.path.insert(0, folder)
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # it is the user's code: anything may happen
            raise UserError(f"--import {name}: {_reason(name, error, folder)}") from error


def _reason(name: str, error: Exception, folder: str) -> str:
    if name.endswith(".py"):
        return f"name the module, {name.removesuffix('.py')}, from the folder that it is in"
    if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
        return f"there is no module {error.name}, neither installed nor in {folder}"
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):  # says where
        return f"{type(error).__name__}: {text}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({frame.filename}, line {frame.lineno})"
