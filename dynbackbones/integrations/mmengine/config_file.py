"""Reads a config of mmengine's, whose ``_base_`` may be one of ours or of a maintained fork's."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import tempfile
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import is_installed

from dynbackbones.integrations.shipped_configs import find_config


def read_config(path: str | os.PathLike) -> Config:
    """As ``Config.fromfile``, and finds two more kinds of bases:

    - ``configs/...`` of this package, where no such file is beside the config;
    - ``mmseg::pspnet/...`` where the package with the module ``mmseg`` has another name than
      mmengine expects, as the maintained forks on PyPI have.

    Args:
        path: an existing file.
    """
    with tempfile.TemporaryDirectory() as folder:
        return Config.fromfile(_with_found_bases(Path(path), folder))


def _with_found_bases(path: Path, folder: str) -> Path:
    """The config itself if mmengine finds its bases, else a copy in ``folder`` that says where.

    Bases that are no plain strings are left to mmengine.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.suffix == ".py" else ast.Module()
        line = next(s for s in tree.body if isinstance(s, ast.Assign) and _is_base(s.targets[0]))
        written = ast.literal_eval(line.value)
    except (SyntaxError, StopIteration, ValueError):
        return path
    bases = [written] if isinstance(written, str) else list(written)
    expected = [base if "::" in base else os.path.abspath(path.parent / base) for base in bases]
    found = [_found(base, path, folder) for base in bases]
    if found == expected:
        return path
    line.value = ast.Constant(found)
    # Of the same name, which mmengine writes into the work dir and configs may ask for.
    copy = Path(tempfile.mkdtemp(dir=folder), path.name)
    here = os.fspath(path.resolve().parent)
    text = re.sub(r"\{\{\s*fileDirname\s*\}\}", lambda _: here, ast.unparse(tree))
    copy.write_text(text, encoding="utf-8")
    return copy


def _is_base(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "_base_"


def _found(base: str, path: Path, folder: str) -> str:
    """Where a base is, or where it should be."""
    if "::" in base:
        return _in_a_fork(base) or base
    place = Path(find_config(base, base_of=path))
    found = _with_found_bases(place, folder) if place.is_file() else place
    return os.path.abspath(found)


def _in_a_fork(base: str) -> str | None:
    """The file of ``module::path`` where mmengine would look for a package that is not there."""
    module, _, name = base.partition("::")
    spec = importlib.util.find_spec(module) if module in MODULE2PACKAGE else None
    if spec is None or spec.origin is None or is_installed(MODULE2PACKAGE[module]):
        return None
    file = Path(spec.origin).parent / ".mim" / "configs" / name
    return os.fspath(file) if file.is_file() else None
