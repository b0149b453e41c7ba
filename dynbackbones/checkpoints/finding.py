"""Finding the weights in a checkpoint, whatever is around them and beside them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynbackbones.checkpoints.files import listed
from dynbackbones.checkpoints.finite import check_finite
from dynbackbones.checkpoints.rebuilding import Foreign
from dynbackbones.errors import UserError

# Where weights are, the first that there is: ours and detectron2's, OpenMMLab's and most others'.
_USUAL = ("model", "state_dict")
_KNOWN = (
    *_USUAL,
    *("model_state_dict", "model_state", "net", "network", "module", "weights", "params", "blobs"),
    *("ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "params_ema"),
)
# What has tensors and is no network.
_BOOKKEEPING = re.compile("optim|sched|scaler|criterion|loss|rng|random", re.IGNORECASE)
# What DataParallel puts before all names, and what others put wherever they wrap a module.
_PARALLEL = "module."
_WRAPPED = re.compile(
    r"(?:(?<=\.)|^)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+"
)
_REPEATED = 2**20
# torch.optim.swa_utils.AveragedModel's, beside the model as its `module`.
_COUNTER = "n_averaged"


class Weights(dict[str, Tensor]):
    """Weights, and where in a checkpoint they were.

    Args:
        weights: names and tensors.
        key: that they were under, with dots between several; empty for a bare file.
        wrappers: what stood in their names and does no longer.
        foreign: names of the kinds of objects in the file that were not loaded.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        *,
        key: str = "",
        wrappers: str = "",
        foreign: Collection[str] = (),
    ) -> None:
        super().__init__(weights)
        self.key, self.wrappers, self.foreign = key, wrappers, tuple(foreign)

    def without(self, prefix: str) -> Weights:
        """The same without a prefix of all names."""
        names = {name.removeprefix(prefix): value for name, value in self.items()}
        return self._of(names, self.wrappers + prefix)

    def but(self, pattern: re.Pattern) -> Weights:
        """The same without the names in which a pattern is found."""
        names = {name: value for name, value in self.items() if not pattern.search(name)}
        return self._of(names, self.wrappers)

    def _of(self, weights: Mapping[str, Tensor], wrappers: str) -> Weights:
        return Weights(weights, key=self.key, wrappers=wrappers, foreign=self.foreign)

    def remarks(self) -> Iterator[str]:
        """What is not usual about the place, for reports."""
        if self.key not in ("", *_USUAL):
            yield f"weights under {self.key!r}"
        if self.wrappers not in ("", "module.", "detector."):
            yield f"names without {self.wrappers!r}"
        if self.foreign:
            yield f"not loaded: {listed(self.foreign)}"


def state_dict_of(
    checkpoint: Mapping[str, Any], source: str = "checkpoint", key: str | None = None
) -> Weights:
    """Takes the weights out of a loaded checkpoint of any layout.

    They may be bare (torchvision's), under ``"model"`` (ours, detectron2's), ``"state_dict"``
    (OpenMMLab's), or what else they are called, several deep, beside whatever a training keeps.
    What `DataParallel`, `torch.compile` and the like put into names goes, in any order. NumPy
    arrays become tensors.

    Args:
        checkpoint: what `load` returned.
        source: names the file in error messages.
        key: that they are under, with dots between several; found out if None.

    Raises:
        UserError: no weights are found or several, or something among them is not a tensor, or
            not finite.
    """
    path = [] if key is None else key.split(".") if key else []
    weights = _at(checkpoint, path, source)
    while key is None and (inner := _choose(weights, source, path)) is not None:
        path.append(inner)
        weights = weights[inner]
    state = {str(name): _as_tensor(value) for name, value in weights.items()}
    tensors = {name: value for name, value in state.items() if _is_dense(value)}
    strange = [name for name in state if name not in tensors and not _plain(state[name])]
    if strange or not tensors:
        raise UserError(_nothing(source, weights, strange if tensors else list(state)))
    found = _unwrapped(tensors)
    check_finite(found, source)
    found.key = ".".join(path)
    found.foreign = tuple(foreign_names(checkpoint))
    return found


def foreign_names(content: Any) -> list[str]:
    """The kinds of objects in a checkpoint that were not loaded, sorted."""
    names, seen, todo = set(), set(), [content]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Foreign):
            names.add(value.name)
        if isinstance(value, Mapping):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            todo += value
    return sorted(names)


def _at(checkpoint: Mapping[str, Any], path: list[str], source: str) -> Mapping[str, Any]:
    found: Any = checkpoint
    for part in path:
        if not isinstance(found, Mapping) or not isinstance(found.get(part), Mapping):
            known = [str(k) for k, v in checkpoint.items() if isinstance(v, Mapping)]
            raise UserError(
                f"{source} has no weights under {'.'.join(path)!r}; dictionaries in it are under "
                f"{listed(known) or 'no key'}"
            )
        found = found[part]
    return found


def _choose(node: Mapping[str, Any], source: str, path: list[str]) -> str | None:
    """The key of the weights in a part of a checkpoint; None if they are that part itself."""
    inside = [key for key, value in node.items() if _holds_weights(key, value, set())]
    if not inside and not any(isinstance(value, Tensor | np.ndarray) for value in node.values()):
        # What is there speaks for itself in the error message.
        return next((key for key in _USUAL if isinstance(node.get(key), Mapping)), None)
    usual = next((key for key in _USUAL if key in inside), None)
    if usual is not None or any(_dimensions(value) > 1 for value in node.values()):
        return usual
    if len(inside) < 2:
        return next(iter(inside), None)
    known = [key for key in _KNOWN if key in inside]
    if not known:
        names = [".".join([*path, key]) for key in inside]
        raise UserError(
            f"{source} has weights under {listed(map(repr, names))}; save those of one alone, or "
            f"say which: key={names[0]!r} for load_weights, --from-key {names[0]} for convert"
        )
    return known[0]


def _holds_weights(key: Any, value: Any, seen: set[int]) -> bool:
    """Whether an entry of a checkpoint has weights of a network, perhaps deeper inside."""
    if not isinstance(key, str) or not isinstance(value, Mapping) or _BOOKKEEPING.search(key):
        return False
    if id(value) in seen:
        return False
    seen.add(id(value))
    if any(isinstance(name, str) and _dimensions(item) > 0 for name, item in value.items()):
        return True
    return any(_holds_weights(name, item, seen) for name, item in value.items())


def _dimensions(value: Any) -> int:
    return value.ndim if isinstance(value, Tensor | np.ndarray) else 0


def _unwrapped(state: dict[str, Tensor]) -> Weights:
    """Weights under the names that they have without wrappers."""
    names = {key: _WRAPPED.sub("", key) for key in state}
    if len(set(names.values())) < len(names):
        names = {key: key for key in state}
    marks = {mark for key in names if key != names[key] for mark in _WRAPPED.findall(key)}
    found = Weights({n: state[key] for key, n in names.items()}, wrappers="".join(sorted(marks)))
    rest = found.keys() - {_COUNTER}
    if rest and all(key.startswith(_PARALLEL) for key in rest):
        found.pop(_COUNTER, None)
    while all(key.startswith(_PARALLEL) for key in found):
        found = found.without(_PARALLEL)
    return found


def _is_dense(value: Any) -> bool:
    """Whether this is an ordinary tensor, which has as many values as it says."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    # A view can repeat one value without end.
    stored = value.untyped_storage().nbytes() // value.element_size()
    return not value.is_meta and value.numel() <= max(stored, _REPEATED)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _as_tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        return value
    try:
        # torch has no big-endian tensors.
        return torch.from_numpy(np.asarray(value, dtype=value.dtype.newbyteorder("=")))
    except TypeError:  # nor those of types such as text
        return value


def _nothing(source: str, weights: Mapping[str, Any], names: list[str]) -> str:
    """One line on what was found instead of weights."""
    foreign = sorted({v.name for v in (weights, *weights.values()) if isinstance(v, Foreign)})
    remedy = f" ({listed(foreign)}, not loaded); save its state_dict alone" if foreign else ""
    return (
        f"{source} has no weights that this package knows: expected a dictionary of tensors, "
        f"bare or under {' or '.join(map(repr, _USUAL))}; "
        f"found {listed(names) or 'an empty one'}{remedy}"
    )
