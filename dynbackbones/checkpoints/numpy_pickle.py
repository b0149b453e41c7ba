"""Reading pickles of NumPy arrays without giving the file a way to run code.

Weights in `.pkl` files (detectron2's model zoo) are pickled dictionaries of NumPy arrays. Even
NumPy's own unpickling functions are too powerful for a file of unknown origin (`numpy.ndarray`
called by a file can alias arbitrary memory), so the few names that such files use are bound to
stand-ins that only record what they were given. The arrays are built from the records afterwards.
"""

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_NUMBERS = re.compile(r"[<>|=]?[biufc]\d{1,2}")


class ForbiddenName(pickle.UnpicklingError):
    """The file refers to something other than plain data and NumPy arrays."""


class _DType:
    """Stand-in for `numpy.dtype`: booleans and numbers only."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise ForbiddenName(f"numpy.dtype({code!r})")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        byte_order = state[1]
        if byte_order in ("<", ">"):
            self.value = self.value.newbyteorder(byte_order)


class _Array:
    """Stand-in for an array that is filled in by its pickled state."""

    value: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, fortran_order, data = state
        self.value = _array(data, dtype, shape, "F" if fortran_order else "C").value


class _ArrayType:
    """Stand-in for the class `numpy.ndarray`, which files name but must not call."""


def _array(data: bytes | str, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
    if not isinstance(dtype, _DType):
        raise ForbiddenName("an array of unknown type")
    if isinstance(data, str):  # Python 2 wrote bytes as what Python 3 reads as text
        data = data.encode("latin1")
    array = _Array()
    # Copied, because the buffer belongs to the pickle and is not writable.
    array.value = np.frombuffer(data, dtype.value).reshape(shape, order=order).copy()
    return array


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> _Array:
    return _Array()


def _scalar(dtype: _DType, data: bytes | str) -> _Array:
    return _array(data, dtype, (), "C")


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ForbiddenName(f"_codecs.encode(..., {encoding!r})")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Old pickle protocols write an empty array's data as a call of `bytes`."""
    return b""


_STAND_INS: dict[tuple[str, str], Callable] = {
    ("__builtin__", "bytes"): _no_bytes,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _ArrayType,
}
for _core in ("numpy.core", "numpy._core"):  # the name before and since NumPy 2
    _STAND_INS[_core + ".multiarray", "_reconstruct"] = _reconstruct
    _STAND_INS[_core + ".multiarray", "scalar"] = _scalar
    _STAND_INS[_core + ".numeric", "_frombuffer"] = _array


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise ForbiddenName(f"{module}.{name}") from None


def _resolve(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {_resolve(key): _resolve(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_resolve(item) for item in value)
    return value


def load(path: Path) -> Any:
    """Reads a pickle of plain data and NumPy arrays (0-d arrays in the place of NumPy scalars).

    Raises:
        ForbiddenName: the file refers to anything else; nothing of it was run.
        Exception: of any kind, if the file is damaged.
    """
    with open(path, "rb") as file:
        return _resolve(_Unpickler(file, encoding="latin1").load())
