"""What is asked of features and lengths before anything is computed."""

from __future__ import annotations

import torch
from torch import Tensor

from dynbackbones.errors import UserError


def check_at_least(least: int, **counts: int) -> None:
    """Refuses numbers below a least one.

    Raises:
        UserError: one is; it is named.
    """
    for name, value in counts.items():
        if not value >= least:
            raise UserError(f"{name} must be at least {least}, got {value}")


def check_choice(name: str, value: str, known: object) -> None:
    """Refuses what is not one of the known values.

    Raises:
        UserError: it is not.
    """
    if value not in known:
        raise UserError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def check_shape(name: str, values: Tensor, shape: tuple[int | None, ...], said: str) -> None:
    """Refuses a tensor of another shape, or an empty one.

    Args:
        name: of the tensor.
        values: it.
        shape: wanted, None where any length will do.
        said: the shape in words, such as ``"(N, T, 512)"``.

    Raises:
        UserError: it has another.
    """
    fits = values.dim() == len(shape) and all(
        want in (None, have) for want, have in zip(shape, values.shape, strict=True)
    )
    if not fits or values.numel() == 0:
        raise UserError(f"{name} must be {said} and not empty, got {tuple(values.shape)}")


def checked_lengths(lengths: Tensor | None, features: Tensor) -> Tensor:
    """Lengths (N,) of videos in a batch (N, T, D); by default T for each.

    Raises:
        UserError: they do not fit.
    """
    n, longest = features.shape[:2]
    if lengths is None:
        return torch.full((n,), longest, device=features.device)
    lengths = torch.as_tensor(lengths, device=features.device)
    if lengths.shape != (n,) or lengths.is_floating_point():
        raise UserError(
            f"lengths must be a whole number for each of the {n} videos, got "
            f"{tuple(lengths.shape)} of {lengths.dtype}"
        )
    if bool(((lengths < 1) | (lengths > longest)).any()):
        raise UserError(
            f"lengths must lie in 1..{longest}, the frames of the batch, got {lengths.tolist()}; "
            "leave videos without frames out"
        )
    return lengths.long()


def without_padding(name: str, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, T, D) with 0 past each video's end, and (N, T) bool where they are real.

    Raises:
        UserError: real ones are not finite.
    """
    real = torch.arange(features.shape[1], device=features.device) < lengths[:, None]
    features = features.where(real[..., None], 0.0)
    check_finite(name, features)
    return features, real


def check_finite(name: str, features: Tensor) -> None:
    """Refuses features with NaN or infinity: they would spread to all that follows.

    Raises:
        UserError: there are.
    """
    if not features.isfinite().all():
        rows = (~features.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        raise UserError(
            f"{name} hold NaN or infinity, in videos {rows}; leave damaged frames out, or repeat "
            "the one before"
        )


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Refuses labels (N,) that are not classes of logits (N, C).

    Raises:
        UserError: they are not.
    """
    n, classes = logits.shape
    if labels.shape != (n,) or bool(((labels < 0) | (labels >= classes)).any()):
        raise UserError(
            f"labels must be classes in 0..{classes - 1} of the {n} videos, got "
            f"{tuple(labels.shape)} with values {labels.unique().tolist()}"
        )
