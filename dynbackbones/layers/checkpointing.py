"""Activation checkpointing: memory for time in training."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_checkpointed(module: nn.Module, function, *inputs: Tensor | None) -> Tensor:
    """``function(*inputs)``, whose activations the backward pass computes a second time.

    Args:
        module: holds all norm layers that ``function`` runs; their running statistics see each
            batch once, as without checkpointing.
        function: from tensors to a tensor, without randomness.
        *inputs: of ``function``.
    """

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _running_statistics_kept(module)

    return checkpoint(
        function, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
    )


@contextmanager
def _running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norm inside computes the same, and leaves its running statistics as they are."""
    updating = [
        norm
        for norm in module.modules()
        if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats
    ]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in updating]
    for norm in updating:
        # Not `track_running_stats`: without it the backward pass finds other tensors saved.
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(updating, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)
