"""Normalisation layers by name."""

from collections.abc import Callable

from torch import nn

NormLayer = Callable[[int], nn.Module]

NORMS = ("BN", "SyncBN", "FrozenBN")


def norm_layer(norm: str | NormLayer) -> NormLayer:
    """Returns the constructor of a normalisation layer.

    Args:
        norm: ``"BN"``, ``"SyncBN"``, ``"FrozenBN"`` (fixed statistics and affine parameters, for
            pretrained weights only), or a callable from a number of channels to a layer.

    Raises:
        ValueError: ``norm`` is a name that is not known.
    """
    if callable(norm):
        return norm
    if norm == "BN":
        return nn.BatchNorm2d
    if norm == "SyncBN":
        return nn.SyncBatchNorm
    if norm == "FrozenBN":
        # Imported on use: `import dynbackbones` loads torch alone.
        from torchvision.ops import FrozenBatchNorm2d

        return FrozenBatchNorm2d
    raise ValueError(f"norm must be one of {', '.join(NORMS)} or a callable, got {norm!r}")


def has_affine_form(norm: nn.Module) -> bool:
    """Whether `affine_of` can express what a norm layer does in evaluation."""
    return all(
        getattr(norm, name, None) is not None
        for name in ("weight", "bias", "running_mean", "running_var")
    )


def affine_of(norm: nn.Module):
    """The per-channel scale and shift that a norm layer with fixed statistics applies.

    Args:
        norm: a batch norm in evaluation mode or a frozen one; both name their four tensors alike.

    Returns:
        ``(scale, shift)``, each of shape (C,): the layer computes ``scale * x + shift``.

    Raises:
        ValueError: the layer keeps no running statistics.
    """
    if not has_affine_form(norm):
        raise ValueError(
            f"sparse execution needs norm layers with running statistics and affine parameters, "
            f"got {type(norm).__name__}; use execution='masked'"
        )
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
