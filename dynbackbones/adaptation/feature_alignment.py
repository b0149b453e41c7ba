"""Alignment of a network's features with those of target images (DCAN, section 6.3.2)."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import Backbone
from dynbackbones.errors import UserError
from dynbackbones.layers.alignment import (
    EPSILON,
    ChannelStatistics,
    align_channels,
    channel_statistics,
)
from dynbackbones.layers.convolutions import conv_out_size


class _Reached(Exception):
    """Ends a forward pass at the module whose output is wanted."""


def find_module(network: nn.Module, name: str) -> str:
    """The name of the submodule after which to align.

    Args:
        network: a backbone of this package or any other network.
        name: a feature (``"res3"``) of a backbone of this package, or of a network whose stages
            are called ``layer1``, ``layer2``, ... as torchvision's and OpenMMLab's ResNets' are;
            else the name of a submodule (``"features.16"``).

    Raises:
        UserError: the network has neither.
    """
    features = _features(network)
    if name in features:
        return features[name]
    modules = [module for module, _ in network.named_modules() if module]
    if name in modules:
        return name
    known = list(features) or [child for child, _ in network.named_children()]
    raise UserError(
        f"cannot align after {name!r}: {type(network).__name__} has no such feature or module; "
        f"choose {', '.join(known)} or the name of a submodule"
    )


def _features(network: nn.Module) -> dict[str, str]:
    infos = getattr(network, "feature_info", None)
    if isinstance(network, Backbone) and infos is not None:
        return {name: info.module for name, info in infos.items()}
    stages = (re.fullmatch(r"layer(\d+)", name) for name, _ in network.named_children())
    return {f"res{int(stage[1]) + 1}": stage[0] for stage in stages if stage}


def target_statistics(
    network: nn.Module, name: str, targets: Tensor, eps: float = EPSILON
) -> ChannelStatistics:
    """Statistics of target images' features; the network stays as it is.

    The pass runs in evaluation mode, as the target images will at test time: norm layers use their
    running statistics and leave them alone, dropout is off, dynamic networks decide without
    noise. The layers behind the alignment are so trained on the statistics that they will meet,
    which batch statistics of a few targets are not; and what the running statistics average over
    stays the synthesised images. (The paper does not say. With frozen batch norm, which is usual
    at its batch size of 3, there is no difference.) The pass ends at the module, keeps no graph,
    and leaves decisions, auxiliary losses and pending image sizes of a backbone alone.

    Args:
        network: what takes the images.
        name: see `find_module`.
        targets: (M, 3, H, W), normalised as the network's images are.
        eps: see `channel_statistics`.

    Raises:
        UserError: the network has no such module, or a forward pass does not use it.
        ValueError: its output is not a feature map.
    """
    path = find_module(network, name)
    found: list[ChannelStatistics] = []

    def take(module: nn.Module, inputs, output) -> None:
        _check_output(path, output)
        found.append(channel_statistics(output, eps))
        raise _Reached

    handle = network.get_submodule(path).register_forward_hook(take)
    try:
        with torch.no_grad(), _side_pass(network):
            network(targets)
    except _Reached:
        return found[0]
    finally:
        handle.remove()
        # Before torch 2.10 autocast keeps weights that were cast under no_grad: the next pass would
        # use these copies, and the weights would get no gradient (pytorch issue 112583).
        torch.clear_autocast_cache()
    raise UserError(
        f"cannot align after {name!r}: a forward pass of {type(network).__name__} does not run it"
    )


@contextmanager
def aligned(
    network: nn.Module,
    name: str,
    targets: Tensor,
    *,
    eps: float = EPSILON,
    image_sizes: Sequence[tuple[int, int]] | None = None,
    padded_size: tuple[int, int] | None = None,
) -> Iterator[None]:
    """Forward passes of a network inside get their features aligned with the targets'.

    One pass over the targets at the start gives the statistics (see `target_statistics`); then
    AdaIN acts on the output of the module, and everything behind it sees aligned features. In
    evaluation mode nothing happens at all; outside nothing remains.

    Args:
        network: what takes the images: a backbone, or a model around one.
        name: of the feature or submodule; see `find_module`.
        targets: (M, 3, H, W), normalised as the network's images are; shared among the N images of
            a pass as `assign_targets` says. Their size may be another.
        eps: see `adain`.
        image_sizes: (height, width) in pixels of each of the N images of a pass inside, without
            padding; None where nothing is padded.
        padded_size: (height, width) of their batch; goes with ``image_sizes``.

    Raises:
        UserError, ValueError: see `target_statistics`; in the passes inside, M does not go with N.
    """
    if not network.training:
        yield
        return
    path = find_module(network, name)
    statistics = target_statistics(network, name, targets, eps)

    def align(module: nn.Module, inputs, output: Tensor) -> Tensor | None:
        if not network.training:
            return None
        return align_channels(output, statistics, eps, _sizes(output, image_sizes, padded_size))

    handle = network.get_submodule(path).register_forward_hook(align)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _side_pass(network: nn.Module) -> Iterator[None]:
    """A forward pass inside runs in evaluation mode and leaves no trace in the network."""
    modules = list(network.modules())
    modes = [module.training for module in modules]
    with ExitStack() as stack:
        for module in modules:
            if isinstance(module, Backbone):
                stack.enter_context(module.state_kept())
        network.eval()
        try:
            yield
        finally:
            # One by one: frozen parts of a network in training mode are not in training mode.
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode


def _sizes(
    features: Tensor,
    image_sizes: Sequence[tuple[int, int]] | None,
    padded_size: tuple[int, int] | None,
) -> list[tuple[int, int]] | None:
    """(rows, columns) of each feature map that its image covers, wholly or in part."""
    if image_sizes is None:
        return None
    strides = [
        _stride(full, side) for full, side in zip(padded_size, features.shape[-2:], strict=True)
    ]
    return [
        tuple(math.ceil(length / stride) for length, stride in zip(size, strides, strict=True))
        for size in image_sizes
    ]


def _stride(full: int, side: int) -> float:
    """Pixels between cells, of which there are ``side`` on ``full`` pixels."""
    powers = (2**n for n in range(full.bit_length()))
    # Convolutions with padding round up, poolings often down.
    fitting = (stride for stride in powers if side in (full // stride, conv_out_size(full, stride)))
    return next(fitting, full / side)


def _check_output(path: str, output) -> None:
    if not isinstance(output, Tensor) or output.dim() != 4:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"cannot align after {path!r}: its output is not one feature map (N, C, H, W), but "
            f"{found}"
        )
