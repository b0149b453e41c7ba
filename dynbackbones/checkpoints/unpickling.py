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
from collections import OrderedDict
from typing import Any

import numpy as np
import torch

from dynbackbones.checkpoints.rebuilding import (
    KNOWN,
    Builder,
    DType,
    EmptyArray,
    ForbiddenName,
    Foreign,
)

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
        if path in KNOWN:
            return KNOWN[path]
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
        if type(target) is EmptyArray:
            self._replace(target.filled(state))
        elif type(target) is DType:
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
    if type(known) is not Builder or known.build is None:
        raise pickle.UnpicklingError(f"a call of {known!r}")
    return known.build(*arguments)


def load(file: io.BufferedIOBase, *, encoding: str = "latin1") -> Any:
    """Reads the pickle that begins at a file's position.

    Raises:
        ForbiddenName: the file refers to what runs code; nothing of it was run.
        Exception: of any kind, if the file is damaged.
    """
    return Unpickler(file, encoding=encoding).load()
