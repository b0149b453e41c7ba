"""Whether a forward pass is being recorded, so that no value may decide what Python does."""

from collections.abc import Callable
from typing import TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable)


def is_traced() -> bool:
    """Whether torch.export, torch.compile or torch.jit.trace records what runs now.

    What is recorded must hold for other images too: ``execution="auto"`` is then ``"masked"``.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def constant_when_compiled(function: _Function) -> _Function:
    """Marks a function that gives the same throughout a compilation, which does not look inside.

    It is `torch.compiler.assume_constant_result`, which imports all of torch's compiler to set one
    attribute: as much again as ``import torch`` takes.
    """
    function._dynamo_marked_constant = True
    return function


# Asked inside of what is compiled, some versions of torch take any compilation for an export.
@constant_when_compiled
def is_exported() -> bool:
    """Whether torch.export or torch.jit.trace records what runs now, for other machines too."""
    # torch 2.6 cannot tell an export from a compilation.
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return exporting() or torch.jit.is_tracing()
