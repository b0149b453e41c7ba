"""Normalisation layers by name."""

from collections.abc import Callable

from torch import Tensor, nn

NormLayer = Callable[[int], nn.Module]

NORMS = ("BN", "SyncBN", "FrozenBN", "GN")


def group_norm(channels: int) -> nn.GroupNorm:
    """A group norm with 32 groups, as detectron2's, or one where 32 do not divide the channels."""
    return nn.GroupNorm(1 if channels % 32 else 32, channels)


def norm_layer(norm: str | NormLayer) -> NormLayer:
    """Returns the constructor of a normalisation layer.

    Args:
        norm: ``"BN"``, ``"SyncBN"``, ``"FrozenBN"`` (fixed statistics and affine parameters, for
            pretrained weights only), ``"GN"``, or a callable from a number of channels to a layer.

    Raises:
        ValueError: ``norm`` is a name that is not known.
    """
    if callable(norm):
        return norm
    if norm == "BN":
        return nn.BatchNorm2d
    if norm == "SyncBN":
        return nn.SyncBatchNorm
    if norm == "GN":
        return group_norm
    if norm == "FrozenBN":
        # Imported on use: `import dynbackbones` loads torch alone.
        from torchvision.ops import FrozenBatchNorm2d

        return FrozenBatchNorm2d
    raise ValueError(f"norm must be one of {', '.join(NORMS)} or a callable, got {norm!r}")


def has_affine_form(norm: nn.Module) -> bool:
    """Whether `fold_norm` can express what a norm layer does in evaluation."""
    return isinstance(norm, nn.Identity) or all(
        getattr(norm, name, None) is not None
        for name in ("weight", "bias", "running_mean", "running_var")
    )


def fold_norm(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution that does what a convolution and a norm layer do.

    Args:
        conv: the convolution.
        norm: a batch norm in evaluation mode or a frozen one (both name their four tensors alike),
            or the identity.

    Returns:
        The weight, shaped as that of ``conv``, and the bias, (C,).

    Raises:
        ValueError: the norm layer keeps no running statistics.
    """
    if not has_affine_form(norm):
        raise ValueError(
            f"sparse execution needs norm layers with running statistics and affine parameters, "
            f"got {type(norm).__name__}; use execution='masked'"
        )
    bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    if isinstance(norm, nn.Identity):
        return conv.weight, bias
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale.view(-1, 1, 1, 1), (bias - norm.running_mean) * scale + norm.bias
