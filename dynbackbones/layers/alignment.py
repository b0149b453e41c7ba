"""Channel statistics, and alignment of feature maps by them (DCAN, section 6.3.1).

Statistics and Gram matrices are float32 whatever the input (float64 stays), autocast or not: sums
over a feature map overflow half precision.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

EPSILON = 1e-5
"""Added to variances, so that constant channels keep finite values and gradients."""


class ChannelStatistics(NamedTuple):
    """Statistics over space of each channel of each image.

    Attributes:
        mean: (N, C).
        std: (N, C), ``sqrt(variance + eps)``; the variance is that of eq. 6.1, divided by H * W.
    """

    mean: Tensor
    std: Tensor


def channel_statistics(
    x: Tensor, eps: float = EPSILON, sizes: Sequence[tuple[int, int]] | None = None
) -> ChannelStatistics:
    """Mean and standard deviation of each channel over space (DCAN, eq. 6.1).

    Args:
        x: (N, C, H, W).
        eps: added to the variance.
        sizes: (height, width) of what counts of each of N maps, from its top left corner on; the
            rest is padding. None: all of it.

    Raises:
        ValueError: ``x`` is not a batch of floating-point feature maps.
    """
    _check_maps("x", x)
    if sizes is not None:
        parts = [x[i : i + 1, :, :height, :width] for i, (height, width) in enumerate(sizes)]
        each = [channel_statistics(part, eps) for part in parts]
        return ChannelStatistics(*(torch.cat(values) for values in zip(*each, strict=True)))
    variance, mean = torch.var_mean(_widened(x), dim=(2, 3), correction=0)
    return ChannelStatistics(mean, (variance + eps).sqrt())


def assign_targets(values: Tensor, count: int) -> Tensor:
    """Gives each of some images what belongs to its target images.

    The rule for M targets and N images: with M = 1 all images share the target; with M = k * N
    image i has the k targets i * k to i * k + k - 1, and gets the mean of their values. (In eq. 6.4
    each image meets several targets one at a time: repeat the images k times for that, so that
    M = N.)

    Args:
        values: (M, ...), of each target.
        count: N.

    Returns:
        (N, ...).

    Raises:
        ValueError: M is neither 1 nor a multiple of N.
    """
    targets = len(values)
    if targets == count:
        return values
    if targets == 1:
        return values.expand(count, *values.shape[1:])
    if targets == 0 or targets % count:
        raise ValueError(
            f"{targets} target images for {count} images: give one for all, or the same number "
            f"for each"
        )
    return values.unflatten(0, (count, targets // count)).mean(dim=1)


def align_channels(
    content: Tensor,
    target: ChannelStatistics,
    eps: float = EPSILON,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """Moves the statistics of each channel to given ones.

    A constant channel has no deviation to scale: it becomes the target's mean.

    Args:
        content: (N, C, H, W).
        target: of M images, which `assign_targets` gives to the N.
        eps: added to the variance of the content.
        sizes: of what counts of the content, see `channel_statistics`; the padding is shifted and
            scaled with it.

    Returns:
        (N, C, H, W) of the content's type.

    Raises:
        ValueError: the channels differ, or M does not go with N.
    """
    mean, std = channel_statistics(content, eps, sizes)
    if target.mean.shape[1:] != mean.shape[1:]:
        raise ValueError(
            f"content has {mean.shape[1]} channels and its target {target.mean.shape[1]}"
        )
    target_mean, target_std = (assign_targets(value, len(content)) for value in target)
    aligned = (_widened(content) - _over_space(mean)) * _over_space(target_std / std)
    return (aligned + _over_space(target_mean)).to(content.dtype)


def adain(content: Tensor, style: Tensor, eps: float = EPSILON) -> Tensor:
    """Adaptive instance normalisation (DCAN, eq. 6.1).

    Args:
        content: (N, C, H, W).
        style: (M, C, H', W'), whose statistics the result gets; `assign_targets` says which of the
            M.
        eps: added to both variances, so that a style equal to the content is the identity.

    Returns:
        (N, C, H, W) of the content's type.

    Raises:
        ValueError: the channels differ, or M does not go with N.
    """
    return align_channels(content, channel_statistics(style, eps), eps)


class AdaIN(nn.Module):
    """`adain` as a layer.

    Args:
        eps: added to variances.
    """

    def __init__(self, eps: float = EPSILON) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        return adain(content, style, self.eps)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"


def gram_matrix(x: Tensor) -> Tensor:
    """Products of all pairs of channels, summed over space (DCAN, section 6.3.2).

    Unlike the paper's they are divided by C * H * W: matrices of images of different sizes, and
    distances of matrices of different layers, are comparable only so.

    Args:
        x: (N, C, H, W).

    Returns:
        (N, C, C).

    Raises:
        ValueError: ``x`` is not a batch of floating-point feature maps.
    """
    _check_maps("x", x)
    rows = _widened(x).flatten(2)
    with torch.autocast(x.device.type, enabled=False):
        return rows @ rows.transpose(1, 2) / rows[0].numel()


def _widened(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _over_space(values: Tensor) -> Tensor:
    return values[:, :, None, None]


def _check_maps(name: str, x: Tensor) -> None:
    if x.dim() != 4 or 0 in x.shape:
        raise ValueError(f"{name} must be (N, C, H, W) and not empty, got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {x.dtype}")
