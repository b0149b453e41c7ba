"""Reading, checking and writing checkpoints; no code from a file is ever run.

Every checkpoint that a tool of this package touches goes through `load` before a framework sees
it. Files of our own are `.pth` files `{"model": state_dict, "meta": {...}}`.
"""

import os
import pickle
import re
import uuid
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynbackbones.checkpoints import numpy_pickle as _numpy_pickle
from dynbackbones.errors import UserError

_WEIGHT_KEYS = ("model", "state_dict")  # ours and detectron2's; OpenMMLab's and most others'
# How torch's files begin: a zip archive, or before torch 1.6 a pickled magic number.
_TORCH_MAGIC = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
_SHOWN = 3


def load(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a checkpoint on the CPU without running code from it.

    torch's files are read with `weights_only=True`. A `.pkl` file that torch did not write
    (detectron2's model zoo) is read by an unpickler that knows plain data and NumPy arrays only;
    its arrays stay NumPy arrays.

    Raises:
        UserError: no such file; the file is damaged, is something else, or holds more than weights.
    """
    path = Path(path)
    head = _read_head(path)
    try:
        if path.suffix == ".pkl" and not head.startswith(_TORCH_MAGIC):
            checkpoint = _numpy_pickle.load(path)
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # parsers fed with arbitrary bytes raise anything
        raise UserError(_explain(path, error)) from error
    if not isinstance(checkpoint, dict):
        raise UserError(
            f"checkpoint {path} holds a {type(checkpoint).__name__}, not a dictionary; "
            'save it as {"model": model.state_dict()}'
        )
    return checkpoint


def state_dict_of(checkpoint: Mapping[str, Any], source: str = "checkpoint") -> dict[str, Tensor]:
    """Takes the weights out of a loaded checkpoint of any of the known layouts.

    These are `{"model": weights, ...}` (ours, detectron2's), `{"state_dict": weights, ...}`
    (OpenMMLab's) and bare weights (torchvision's). NumPy arrays become tensors; the prefix
    `module.` of a data-parallel wrapper goes.

    Args:
        checkpoint: what `load` returned.
        source: names the file in error messages.

    Raises:
        UserError: no weights are found, or something among them is not a tensor.
    """
    weights: Any = checkpoint
    for key in _WEIGHT_KEYS:
        if isinstance(checkpoint.get(key), Mapping):
            weights = checkpoint[key]
            break
    state = {str(key): _as_tensor(value) for key, value in weights.items()}
    strangers = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if strangers or not state:
        raise UserError(
            f"{source} has no weights that this package knows: expected a dictionary of tensors, "
            f"bare or under {' or '.join(map(repr, _WEIGHT_KEYS))}; "
            f"found {listed(strangers) or 'an empty one'}"
        )
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def differences(
    model_state: Mapping[str, Tensor],
    file_state: Mapping[str, Tensor],
    *,
    optional: Collection[str] = (),
) -> list[str]:
    """What keeps a file's weights from fitting a model exactly: other keys, other shapes.

    Batch norm's `num_batches_tracked` may be absent on either side: it has no part in what a
    network computes, and frozen batch norm does without.

    Args:
        model_state: the model's `state_dict()`.
        file_state: the file's weights, from `state_dict_of`.
        optional: keys of the model that the file may lack if it has none of them, such as a
            policy network's.

    Returns:
        For each kind of difference how many keys and the first few; empty if the weights fit.
    """
    excused = () if file_state.keys() & set(optional) else optional
    missing = without_counters(model_state.keys() - file_state.keys() - set(excused))
    unexpected = without_counters(file_state.keys() - model_state.keys())
    reshaped = [
        f"{key} {tuple(file_state[key].shape)} instead of {tuple(model_state[key].shape)}"
        for key in sorted(model_state.keys() & file_state.keys())
        if file_state[key].shape != model_state[key].shape
    ]
    return [
        f"{len(keys)} {label} ({listed(keys)})"
        for label, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", reshaped),
        )
        if keys
    ]


def check_architecture(
    model_state: Mapping[str, Tensor],
    file_state: Mapping[str, Tensor],
    path: str | os.PathLike,
    *,
    optional: Collection[str] = (),
) -> None:
    """Makes sure that a file's weights fit a model exactly.

    Args:
        model_state, file_state, optional: see `differences`.
        path: names the file in the error message.

    Raises:
        UserError: they differ; lists how many keys and the first few of each kind.
    """
    findings = differences(model_state, file_state, optional=optional)
    if findings:
        raise UserError(
            f"checkpoint {path} is of another architecture: of the model's {len(model_state)} keys "
            f"and the file's {len(file_state)}, {', '.join(findings)}; "
            "use the config that it was trained with, or other weights"
        )


def listed(keys: Iterable[str]) -> str:
    """The first few of some keys, for messages."""
    keys = list(keys)
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def without_counters(keys: Iterable[str]) -> list[str]:
    """Some keys in order, less those of batch norm's counters."""
    return sorted(key for key in keys if not key.endswith("num_batches_tracked"))


def save(
    path: str | os.PathLike,
    state_dict: Mapping[str, Tensor],
    meta: dict[str, Any],
    weights_key: str = "model",
) -> None:
    """Writes `{"model": state_dict, "meta": meta}`; the file is either complete or not there.

    Args:
        path: where to; missing folders are made, an existing file is replaced.
        state_dict: weights, copied to the CPU.
        meta: plain data (numbers, strings, None, tensors, and lists, tuples and dictionaries of
            them).
        weights_key: another name for `"model"`, where a framework wants it.

    Raises:
        TypeError: `meta` holds something that `load` would refuse to read back.
    """
    _check_plain(meta, "meta")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu() for key, value in state_dict.items()}
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        torch.save({weights_key: weights, "meta": meta}, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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


def _explain(path: Path, error: Exception) -> str:
    """One line on why a file could not be read: unsafe content, or damage."""
    if isinstance(error, _numpy_pickle.ForbiddenName):
        name = str(error)
    elif isinstance(error, pickle.UnpicklingError):
        # torch names what it refused only inside a text of many lines.
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        name = found.group(1) if found else ""
    else:
        name = ""
    if name:
        return (
            f"checkpoint {path} holds more than weights ({name}) and was not loaded, because that "
            "would run code from the file; save its state_dict alone"
        )
    return (
        f"checkpoint {path} is damaged or not a checkpoint ({type(error).__name__}); get it again"
    )


def _as_tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        # torch has no big-endian tensors.
        return torch.from_numpy(np.asarray(value, dtype=value.dtype.newbyteorder("=")))
    return value


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    # Exact types: subclasses (NumPy's float64 is a float) are pickled under their own name.
    elif value is not None and type(value) not in (bool, int, float, str, Tensor):
        raise TypeError(
            f"{where} is a {type(value).__name__}; "
            "a checkpoint keeps numbers, strings and tensors only"
        )
