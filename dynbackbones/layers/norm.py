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


def frozen_statistics(norm: nn.Module) -> bool:
    """Whether a forward through ``norm`` uses fixed statistics, so that it is an affine map."""
    return not getattr(norm, "training", False) or not isinstance(
        norm, nn.modules.batchnorm._NormBase
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
    if getattr(norm, "running_mean", None) is None or getattr(norm, "weight", None) is None:
        raise ValueError(
            f"sparse execution needs norm layers with running statistics and affine parameters, "
            f"got {type(norm).__name__}; use execution='masked'"
        )
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
