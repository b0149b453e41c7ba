"""Reading pickles without giving the file a way to run code, whatever lies beside the weights.

Nothing that a file names is imported or called. Names of tensors, arrays and plain containers are
bound to builders of our own; any other becomes a `Foreign`, a note of the name that takes whatever
the file gives it. Names of the standard library that do something are refused: no file has them
for its weights' sake.

`torch.load` takes this module as its ``pickle_module``.
"""

import _compat_pickle
import builtins
import io
import itertools
import pickle
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

# What of the standard library is data: modules, and names in others. Bound methods, of which
# mmengine's log histories consist, are pickled as calls of `getattr`.
_DATA_MODULES = {
    *("argparse", "collections", "datetime", "decimal", "enum", "fractions", "ipaddress"),
    *("pathlib", "typing", "uuid", "zoneinfo"),
}
_DATA = {
    *(f"builtins.{name}" for name, value in vars(builtins).items() if isinstance(value, type)),
    *("builtins.getattr", "functools.partial", "random.Random", "re._compile", "time.struct_time"),
    *("types.MappingProxyType", "types.SimpleNamespace"),
}
# How many objects of an array's state may stand between the array's own place in the memo and that.
_NEAR = 16


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


class _Builder:
    """What may stand for a name of the file and be called."""

    __slots__ = ("build",)

    def __init__(self, build: Callable) -> None:
        self.build = build


class _DType:
    """Stands for a `numpy.dtype`: booleans and numbers only."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        kind = code.lstrip("<>=|") if isinstance(code, str) else ""
        if kind[:1] not in tuple("biufc") or not kind[1:].isdigit():
            raise ForbiddenName(f"numpy.dtype({code!r})")
        self.value = np.dtype(code)

    def set_byte_order(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class _EmptyArray(Foreign):
    """Stands for an array until its pickled state comes."""

    def filled(self, state: tuple) -> np.ndarray:
        _version, shape, dtype, fortran, data = state
        return _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: bytes | str, dtype: _DType, shape: tuple[int, ...], order: str) -> np.ndarray:
    if not isinstance(dtype, _DType):
        raise ForbiddenName("an array of unknown type")
    if isinstance(data, str):  # Python 2 wrote bytes as what Python 3 reads as text
        data = data.encode("latin1")
    # Copied, because the buffer belongs to the pickle and is not writable.
    return np.frombuffer(data, dtype.value).reshape(shape, order=order).copy()


def _scalar(dtype: _DType, data: bytes | str) -> np.generic:
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
    if not isinstance(build, _Builder):
        raise pickle.UnpicklingError("a tensor is made by what is not known")
    return build.build(*arguments)


def _reconstructed(kind: Any, base: Any, items: Any) -> Foreign:
    """What the oldest protocols make an object with."""
    if not isinstance(kind, Foreign):
        raise pickle.UnpicklingError("an object of a known class")
    found = Foreign(kind.name)
    found.update(items if isinstance(items, dict) else {})
    return found


_KNOWN: dict[str, Any] = {
    "builtins.bytes": _Builder(_bytes),
    "builtins.bytearray": _Builder(_bytes),
    "builtins.set": _Builder(lambda items=(): set(items)),
    "builtins.frozenset": _Builder(lambda items=(): frozenset(items)),
    "builtins.complex": _Builder(complex),
    "_codecs.encode": _Builder(_encode),
    "copyreg._reconstructor": _Builder(_reconstructed),
    "collections.OrderedDict": _Builder(OrderedDict),
    "collections.defaultdict": _Builder(lambda *_: {}),
    "collections.Counter": _Builder(lambda counts=(): Counter(counts)),
    "numpy.dtype": _Builder(_DType),
    "numpy.ndarray": _Builder(None),  # files name it and must not call it
    "torch.Size": _Builder(tuple),
    "torch._utils._rebuild_tensor": _Builder(_tensor),
    "torch._utils._rebuild_tensor_v2": _Builder(_tensor),
    "torch._utils._rebuild_tensor_v3": _Builder(_tensor_of_type),
    "torch._utils._rebuild_parameter": _Builder(lambda data, *_: data),
    "torch._utils._rebuild_parameter_with_state": _Builder(lambda data, *_: data),
    "torch._tensor._rebuild_from_type_v2": _Builder(_subclass_as_tensor),
    "torch.storage.UntypedStorage": torch.UntypedStorage,
}
for _core in ("numpy.core", "numpy._core"):  # the name before and since NumPy 2
    _KNOWN[_core + ".multiarray._reconstruct"] = _Builder(lambda *_: _EmptyArray("numpy.ndarray"))
    _KNOWN[_core + ".multiarray.scalar"] = _Builder(_scalar)
    _KNOWN[_core + ".numeric._frombuffer"] = _Builder(_array)


class Unpickler(pickle._Unpickler):
    """Builds plain data, tensors and arrays, and a `Foreign` for everything else.

    It is Python's own in Python, so that each operation by which a file could call something is
    replaced here. Tensors need a ``persistent_load``, which `torch.load` sets.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; see the module.

        Raises:
            ForbiddenName: it would run code.
        """
        if self.proto < 3:  # with Python 2's names
            new = _compat_pickle.IMPORT_MAPPING.get(module, module), name
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), new)
        path = f"{module}.{name}"
        if path in _KNOWN:
            return _KNOWN[path]
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        top = path.partition(".")[0]
        if top in sys.stdlib_module_names and top not in _DATA_MODULES and path not in _DATA:
            raise ForbiddenName(path)
        return Foreign(path)

    def _instantiate(self, known: Any, arguments: Any) -> None:
        """Replaces what calls a class in the oldest protocols."""
        self.append(_call(known, arguments))

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("names by number")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        options = self.stack.pop()
        if options and not isinstance(self.stack[-2], Foreign):
            raise pickle.UnpicklingError("options for a known class")
        self.load_reduce()

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is _EmptyArray:
            self._replace(target.filled(state))
        elif type(target) is _DType:
            target.set_byte_order(state)
        elif type(target) is OrderedDict:
            # Versions of a model's layers, which torch keeps beside its weights.
            versions = state.get("_metadata")
            if type(versions) in (dict, OrderedDict):
                target._metadata = versions
        elif type(target) is not Foreign:
            raise pickle.UnpicklingError(f"a state for a {type(target).__name__}")

    def _replace(self, array: np.ndarray) -> None:
        """Puts an array where its stand-in is: on top of the stack, and last in the memo."""
        for key, value in itertools.islice(reversed(self.memo.items()), _NEAR):
            if value is self.stack[-1]:
                self.memo[key] = array
        self.stack[-1] = array

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list) -> None:
        if type(self.stack[-1]) is list:
            self.stack[-1].extend(items)
        elif type(self.stack[-1]) is not Foreign:
            raise pickle.UnpicklingError(f"items for a {type(self.stack[-1]).__name__}")

    def load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise pickle.UnpicklingError(f"items for a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def load_setitems(self) -> None:
        self._update(self.pop_mark())

    def _update(self, items: list) -> None:
        if not isinstance(self.stack[-1], dict):
            raise pickle.UnpicklingError(f"items for a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def load_binpersid(self) -> None:
        identity = self.stack.pop()
        if type(identity) is tuple and identity[:1] == ("module",):
            # A class of a model with its source, for which torch might write files.
            self.append(Foreign(getattr(identity[1], "name", "a module")))
            return
        if type(identity) is not tuple or identity[:1] != ("storage",):
            raise pickle.UnpicklingError("a reference to something else than a tensor's storage")
        self.append(self.persistent_load(identity))

    for _code, _load in (
        (pickle.REDUCE, load_reduce),
        (pickle.NEWOBJ, load_newobj),
        (pickle.NEWOBJ_EX, load_newobj_ex),
        (pickle.BUILD, load_build),
        (pickle.APPEND, load_append),
        (pickle.APPENDS, load_appends),
        (pickle.ADDITEMS, load_additems),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.BINPERSID, load_binpersid),
    ):
        dispatch[_code[0]] = _load


def _call(known: Any, arguments: Any) -> Any:
    """What a call in the file gives."""
    if isinstance(known, Foreign):
        return Foreign(known.name)
    if type(known) is not _Builder or known.build is None:
        raise pickle.UnpicklingError(f"a call of {known!r}")
    return known.build(*arguments)


def load(file: io.BufferedIOBase, *, encoding: str = "latin1") -> Any:
    """Reads the pickle that begins at a file's position.

    Raises:
        ForbiddenName: the file refers to what runs code; nothing of it was run.
        Exception: of any kind, if the file is damaged.
    """
    return Unpickler(file, encoding=encoding).load()
