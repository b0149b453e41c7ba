"""What stands for the names of a pickle: builders of our own for tensors, arrays and containers."""

import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ForbiddenName(pickle.UnpicklingError):
    """The file refers to something that runs code, or that arrays must not be made of."""


class Foreign(dict):
    """Stands for an object or a name that is not known here; nothing of it was run.

    It is empty, or has the items that a class of dictionaries was given.

    Args:
        name: what the file calls it, ``module.Class``.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    # An object may be a key, and is no other object.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __repr__(self) -> str:
        return f"<{self.name}, not loaded>"


class Builder:
    """What may stand for a name of the file and be called."""

    __slots__ = ("build",)

    def __init__(self, build: Callable) -> None:
        self.build = build


class DType:
    """Stands for a `numpy.dtype`: booleans and numbers only."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        kind = code.lstrip("<>=|") if isinstance(code, str) else ""
        if kind[:1] not in tuple("biufc") or not kind[1:].isdigit():
            raise ForbiddenName(f"numpy.dtype({code!r})")
        self.value = np.dtype(code)

    def set_byte_order(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class EmptyArray(Foreign):
    """Stands for an array until its pickled state comes."""

    def filled(self, state: tuple) -> np.ndarray:
        _version, shape, dtype, fortran, data = state
        return _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: bytes | str, dtype: DType, shape: tuple[int, ...], order: str) -> np.ndarray:
    if not isinstance(dtype, DType):
        raise ForbiddenName("an array of unknown type")
    if isinstance(data, str):  # Python 2 wrote bytes as what Python 3 reads as text
        data = data.encode("latin1")
    # Copied, because the buffer belongs to the pickle and is not writable.
    return np.frombuffer(data, dtype.value).reshape(shape, order=order).copy()


def _scalar(dtype: DType, data: bytes | str) -> np.generic:
    return _array(data, dtype, (), "C")[()]


def _bytes(data: bytes | str = b"", encoding: str = "latin1") -> bytes:
    if isinstance(data, str):
        return _encode(data, encoding.replace("-", ""))
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("bytes of something else")
    return data


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ForbiddenName(f"_codecs.encode(..., {encoding!r})")
    return text.encode("latin1")


def _tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return _view(storage, offset, size, stride, storage.dtype)


def _tensor_of_type(
    storage: Any, offset: int, size: tuple, stride: tuple, grad: bool, hooks: Any, dtype: Any
) -> Tensor:
    return _view(storage, offset, size, stride, dtype)


def _view(storage: Any, offset: int, size: tuple, stride: tuple, dtype: torch.dtype) -> Tensor:
    # torch refuses what reaches over the storage's end.
    return torch.empty(0, dtype=dtype).set_(storage._untyped_storage, offset, size, stride)


def _subclass_as_tensor(build: Any, kind: Any, arguments: tuple, state: Any) -> Any:
    if not isinstance(build, Builder):
        raise pickle.UnpicklingError("a tensor is made by what is not known")
    return build.build(*arguments)


def _reconstructed(kind: Any, base: Any, items: Any) -> Foreign:
    """What the oldest protocols make an object with."""
    if not isinstance(kind, Foreign):
        raise pickle.UnpicklingError("an object of a known class")
    found = Foreign(kind.name)
    found.update(items if isinstance(items, dict) else {})
    return found


KNOWN: dict[str, Any] = {
    "builtins.bytes": Builder(_bytes),
    "builtins.bytearray": Builder(_bytes),
    "builtins.set": Builder(lambda items=(): set(items)),
    "builtins.frozenset": Builder(lambda items=(): frozenset(items)),
    "builtins.complex": Builder(complex),
    "_codecs.encode": Builder(_encode),
    "copyreg._reconstructor": Builder(_reconstructed),
    "collections.OrderedDict": Builder(OrderedDict),
    "collections.defaultdict": Builder(lambda *_: {}),
    "collections.Counter": Builder(lambda counts=(): Counter(counts)),
    "numpy.dtype": Builder(DType),
    "numpy.ndarray": Builder(None),  # files name it and must not call it
    "torch.Size": Builder(tuple),
    "torch._utils._rebuild_tensor": Builder(_tensor),
    "torch._utils._rebuild_tensor_v2": Builder(_tensor),
    "torch._utils._rebuild_tensor_v3": Builder(_tensor_of_type),
    "torch._utils._rebuild_parameter": Builder(lambda data, *_: data),
    "torch._utils._rebuild_parameter_with_state": Builder(lambda data, *_: data),
    "torch._tensor._rebuild_from_type_v2": Builder(_subclass_as_tensor),
    "torch.storage.UntypedStorage": torch.UntypedStorage,
}
for _core in ("numpy.core", "numpy._core"):  # the name before and since NumPy 2
    KNOWN[_core + ".multiarray._reconstruct"] = Builder(lambda *_: EmptyArray("numpy.ndarray"))
    KNOWN[_core + ".multiarray.scalar"] = Builder(_scalar)
    KNOWN[_core + ".numeric._frombuffer"] = Builder(_array)
