"""Reading checkpoints; no code from a file is ever run, and nothing is written.

Every checkpoint that a tool of this package touches goes through `load` before a framework sees
it.
"""

import contextlib
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from dynbackbones.checkpoints import unpickling
from dynbackbones.checkpoints.rebuilding import ForbiddenName, Foreign
from dynbackbones.errors import UserError

_ZIP = b"PK\x03\x04"
# What torch's files begin with that are no zip archives, as before torch 1.6: this pickled number.
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# torch compresses nothing, so its archives hold less than they are long.
_UNPACKED_TIMES, _UNPACKED_MORE = 20, 2**26


def load(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a checkpoint on the CPU without running code from it.

    torch's files are read with `weights_only=True`. Where that refuses one for what lies beside
    the weights, and for plain pickles (detectron2's model zoo), `unpickling` takes tensors, NumPy
    arrays and plain data, and leaves a `Foreign` in the place of anything else.

    Raises:
        UserError: no such file; the file is damaged, is something else, or would run code.
    """
    path = Path(path)
    head = _read_head(path)
    try:
        checkpoint = _read(path, head)
    except UserError:
        raise
    except Exception as error:  # parsers fed with arbitrary bytes raise anything
        raise UserError(_explain(path, head, error)) from error
    if isinstance(checkpoint, Foreign) or not isinstance(checkpoint, dict):
        foreign = isinstance(checkpoint, Foreign)
        name = checkpoint.name if foreign else type(checkpoint).__name__
        raise UserError(
            f"checkpoint {path} holds a {name}, not a dictionary; "
            'save it as {"model": model.state_dict()}'
        )
    return checkpoint


def _read(path: Path, head: bytes) -> Any:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if head.startswith(_ZIP):
        _check_unpacked_size(path)
    elif _LEGACY_MAGIC not in head[:32]:
        with open(path, "rb") as file:
            return unpickling.load(file)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # In memory, since torch would unpack a file that it takes for a tar archive.
        file = path if head.startswith(_ZIP) else io.BytesIO(path.read_bytes())
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=unpickling)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(
            f"checkpoint {path} needs safetensors: run pip install safetensors"
        ) from error
    return load_file(path)


def _check_unpacked_size(path: Path) -> None:
    """Refuses an archive that would fill the memory."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > _UNPACKED_TIMES * size + _UNPACKED_MORE:
        raise UserError(
            f"checkpoint {path} has {size} bytes and would unpack to {unpacked}, which torch's "
            "files never do; get it again, from somebody whom you trust"
        )


def _read_head(path: Path) -> bytes:
    """First bytes of a file that exists and could be a checkpoint."""
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist; check the path")
    if not path.is_file():
        raise UserError(f"checkpoint {path} is not a file; name a file inside it")
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be opened: {error.strerror}") from error
    start = head.lstrip().lower()
    if not start:
        raise UserError(f"checkpoint {path} is empty; copy or download it again")
    if start.startswith((b"<!doctype", b"<html")):
        raise UserError(
            f"checkpoint {path} is an HTML page: the download met an error or login page; "
            "download it again"
        )
    if start.startswith(b"version https://git-lfs"):
        raise UserError(
            f"checkpoint {path} is a Git LFS pointer; fetch the file itself (git lfs pull)"
        )
    return head


def _explain(path: Path, head: bytes, error: Exception) -> str:
    """One line on why a file could not be read: unsafe content, another format, or damage."""
    if isinstance(error, ForbiddenName):
        return (
            f"checkpoint {path} holds more than weights ({error}) and was not loaded, because that "
            "would run code from the file; save its state_dict alone"
        )
    if "pickle_module" in str(error):
        return (
            f"checkpoint {path} holds more than weights, which TORCH_FORCE_WEIGHTS_ONLY_LOAD "
            "forbids to read; unset it, or save the state_dict alone"
        )
    other = ""
    with contextlib.suppress(Exception):  # a damaged archive may not even be listed
        other = _other_format(path, head)
    if other:
        return f"checkpoint {path} is {other}"
    return (
        f"checkpoint {path} is damaged or not a checkpoint ({type(error).__name__}); get it again"
    )


def _other_format(path: Path, head: bytes) -> str:
    """What a file is that cannot be read, and what to do; empty if it is nothing known."""
    if head.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
        if "constants.pkl" in names:
            return "a TorchScript program; save the state_dict of what torch.jit.load gives"
        if "data.pkl" not in names:
            return "a zip archive of other files; unpack it, and name one of them"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file (Keras?); weights of torch are wanted"
    if head.startswith((b"\x1f\x8b", b"\xfd7zXZ", b"BZh")):
        return "compressed; unpack it first"
    if tarfile.is_tarfile(path):
        return "a tar archive; unpack it, or if torch before 0.1.10 wrote it, save it anew"
    return ""
