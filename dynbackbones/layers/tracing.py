"""Whether a forward pass is being recorded, so that no value may decide what Python does."""

import torch


def is_traced() -> bool:
    """Whether torch.export, torch.compile or torch.jit.trace records what runs now.

    What is recorded must hold for other images too: ``execution="auto"`` is then ``"masked"``.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


# Asked inside of what is compiled, some versions of torch take any compilation for an export.
@torch.compiler.assume_constant_result
def is_exported() -> bool:
    """Whether torch.export or torch.jit.trace records what runs now, for other machines too."""
    # torch 2.6 cannot tell an export from a compilation.
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return exporting() or torch.jit.is_tracing()
