"""Checking and writing checkpoints.

Files of our own are `.pth` files `{"model": state_dict, "meta": {...}}`.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from dynbackbones.checkpoints.whole_file import whole_file
from dynbackbones.errors import UserError

_SHOWN = 3


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
        only_shapes = len(findings) == 1 and "of another shape" in findings[0]
        likely = " (has it another number of classes?)" if only_shapes else ""
        raise UserError(
            f"checkpoint {path} is of another architecture: of the model's {len(model_state)} keys "
            f"and the file's {len(file_state)}, {', '.join(findings)}; "
            f"use the config that it was trained with{likely}, or other weights"
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
        UserError: there is no room, or writing is not allowed.
    """
    _check_plain(meta, "meta")
    weights = {key: value.detach().cpu() for key, value in state_dict.items()}
    with whole_file(path) as file:
        torch.save({weights_key: weights, "meta": meta}, file)


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
