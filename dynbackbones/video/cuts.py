"""A model in two parts: what sees the image, and the heads, which read features.

Nothing is changed in the model, which others may be running: its parts are exchanged in a copy of
the outermost module alone, which shares everything else with it.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from torch import nn


class Recording(nn.Module):
    """Runs a module, and remembers what it gave.

    Args:
        module: whose other attributes are its own, too.

    Attributes:
        calls: how often it ran.
        given: (height, width) of its last input.
        output: of its last call.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calls, self.given, self.output = 0, None, None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        self.given = tuple(getattr(args[0], "shape", ())[-2:]) if args else None
        self.output = self.module(*args, **kwargs)
        return self.output

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


class Recalled(nn.Module):
    """Gives what a module gave before, whatever it is called with.

    Args:
        output: to give.
        module: in whose place it stands, and whose other attributes are its own, too. It is no
            part of this one, so that nobody finds a backbone that does not run.
    """

    def __init__(self, output: Any, module: nn.Module) -> None:
        super().__init__()
        self.output, self.__dict__["_of"] = output, module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_of"], name)


@dataclass(frozen=True)
class Cut:
    """Where a model falls into two parts.

    Attributes:
        model: has modules of these names.
        names: of what sees the image, one after the other; the heads read what the last one gives.
        quiet: modules whose hooks tell the first part about an image, which are left out where it
            does not run.
    """

    model: nn.Module
    names: tuple[str, ...] = ("backbone",)
    quiet: tuple[str, ...] = ()

    def recording(self) -> tuple[nn.Module, list[Recording]]:
        """The model itself, which remembers what passes between its parts."""
        parts = [Recording(getattr(self.model, name)) for name in self.names]
        return _with(self.model, dict(zip(self.names, parts, strict=True))), parts

    def recalling(self, output: Any) -> nn.Module:
        """The model with the output of its first part given."""
        first, *others = self.names
        parts: dict[str, nn.Module] = {name: nn.Identity() for name in others}
        parts[first] = Recalled(output, getattr(self.model, first))
        parts.update((name, _without_hooks(getattr(self.model, name))) for name in self.quiet)
        return _with(self.model, parts)


def _with(model: nn.Module, parts: dict[str, nn.Module]) -> nn.Module:
    """A copy that shares all but these children."""
    other = copy.copy(model)
    other._modules = {**model._modules, **parts}
    return other


def _without_hooks(module: nn.Module) -> nn.Module:
    other = copy.copy(module)
    other._forward_hooks, other._forward_pre_hooks = OrderedDict(), OrderedDict()
    return other
