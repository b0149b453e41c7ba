"""The scale on which targets are predicted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NORMS = ("standardise", "none")
# Of a channel's standard deviation, relative to the median of those that vary at all.
_LEAST = 0.05
# The same relative to the largest: below, a channel counts as constant.
_CONSTANT = 1e-6


class TargetScaling(nn.Module):
    """Standardises targets by mean and standard deviation of each channel, kept as buffers.

    They are estimated once, from targets of the training images; else the right learning rate
    would depend on the teacher's scale. Until `fit` was called, and with ``norm="none"``, which is
    the chapter's, targets pass as they are.

    Args:
        channels: of the targets.
        norm: ``"standardise"`` or ``"none"``.

    Raises:
        ValueError: there is no such norm.

    Example:
        >>> import torch
        >>> from dynbackbones.pretraining import TargetScaling
        >>> scaling = TargetScaling(2)
        >>> scaling.fit(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
        >>> scaling(torch.tensor([[1.0, 40.0]])).tolist()
        [[0.0, 2.0]]
    """

    def __init__(self, channels: int, norm: str = "standardise") -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"target_norm must be {' or '.join(NORMS)}, got {norm!r}")
        self.norm = norm
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("fitted", torch.tensor(norm == "none"))

    @torch.no_grad()
    def fit(self, targets: Tensor) -> None:
        """Takes mean and deviation of targets (N, channels), unless the norm is ``"none"``.

        A channel that hardly varies gets a twentieth of the median deviation: behind a ReLU some
        channels are 0 in nearly all patches, and those where they are not would make up the loss.

        Raises:
            ValueError: targets have another shape, are less than two, or are not finite.
        """
        if self.norm == "none":
            return
        if targets.dim() != 2 or targets.shape[1] != len(self.mean) or len(targets) < 2:
            raise ValueError(
                f"targets must be (N, {len(self.mean)}) with N of 2 or more, got "
                f"{tuple(targets.shape)}"
            )
        if not targets.isfinite().all():
            raise ValueError("targets are not all finite: the teacher's weights are damaged")
        values = targets.double()
        std = values.std(dim=0, correction=0)
        varying = std[std > _CONSTANT * std.max()]
        self.mean.copy_(values.mean(dim=0))
        # Where all targets are the same, they are left at their scale.
        self.std.copy_(std.clamp(min=_LEAST * varying.median()) if len(varying) else 1.0)
        self.fitted.fill_(True)

    def forward(self, targets: Tensor) -> Tensor:
        """From the teacher's targets to those that are predicted."""
        return (targets.float() - self.mean) / self.std

    def inverse(self, predicted: Tensor) -> Tensor:
        """Back to the teacher's scale."""
        return predicted * self.std + self.mean
