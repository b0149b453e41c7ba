"""Prepares trained networks for fast inference, static and dynamic ones alike."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

from dynbackbones.backbones.base import Backbone, find_backbones
from dynbackbones.layers.native_rows import NativeRows, can_compute, extension
from dynbackbones.layers.norm import fold_norm, has_affine_form
from dynbackbones.layers.packed import PackedConv2d, can_pack
from dynbackbones.layers.regions import RegionSelector
from dynbackbones.layers.residual import ResidualBlock

Model = TypeVar("Model", bound=nn.Module)


def optimize_for_inference(
    model: Model, *, pack: bool = True, native_rows: bool = False
) -> Model:
    """A copy of a model whose backbones run faster in inference, with the same results.

    Batch norms are folded into the convolutions before them, feature maps are channels-last, and on
    CPUs whose PyTorch has oneDNN, weights are kept in its layout with ReLU and sums fused. On GPUs
    the selectors' grouped convolutions, which cuDNN computes slowly, become ordinary ones. The copy
    is in evaluation mode and not for training; the model stays as it is.

    Args:
        model: a backbone of this package, or any model that contains some, such as a detector.
        pack: keep weights in oneDNN's layout too, which takes the memory of the weights once more.
        native_rows: compute the regions that a SAR network selects by a C++ extension, on CPUs. It
            is built once on each machine, which takes a minute, a C++ compiler and ninja; without
            them PyTorch's operators compute the same, and a warning says so.

    Raises:
        ValueError: the model contains no backbone of this package.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_backbone("resnet18").eval()
        >>> fast = dynbackbones.optimize_for_inference(net)
        >>> images = torch.rand(1, 3, 64, 64)
        >>> torch.allclose(net(images)["res5"], fast(images)["res5"], atol=1e-4)
        True
    """
    model = copy.deepcopy(model).eval()
    backbones = find_backbones(model)
    if not backbones:
        raise ValueError(
            f"optimize_for_inference needs a backbone of this package, {type(model).__name__} has "
            "none"
        )
    for backbone in backbones:
        backbone.requires_grad_(False)
        fold_norms(backbone)
        backbone.to(memory_format=torch.channels_last)
        if next(backbone.parameters()).device.type == "cuda":
            _ungroup(backbone)
        else:
            if pack and can_pack():
                _pack(backbone)
            if native_rows and extension() is not None:
                _compute_natively(backbone)
    return model


def fold_norms(module: nn.Module) -> None:
    """Folds norm layers with fixed statistics into the convolutions before them, in place.

    Others, such as group norm, stay.

    Args:
        module: in evaluation mode.
    """
    for parent in list(module.modules()):
        for conv_name, norm_name in _pairs(parent):
            conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
            if not has_affine_form(norm):
                continue
            with torch.no_grad():
                weight, bias = fold_norm(conv, norm)
            conv.weight = nn.Parameter(weight.detach(), requires_grad=False)
            conv.bias = nn.Parameter(bias.detach(), requires_grad=False)
            setattr(parent, norm_name, nn.Identity())


def _pairs(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of the convolutions below a module and of the norm layers that follow them."""
    names = [name for name, _ in parent.named_children()]
    for index, name in enumerate(names):
        if not isinstance(getattr(parent, name), nn.Conv2d):
            continue
        if isinstance(parent, nn.Sequential):
            following = names[index + 1] if index + 1 < len(names) else None
        else:
            following = name.replace("conv", "bn", 1) if name.startswith("conv") else None
        if following in names:
            yield name, following


def _ungroup(module: Backbone) -> None:
    """Gives selectors ordinary convolutions, with zeros between the groups."""
    for selector in module.modules():
        if not isinstance(selector, RegionSelector) or selector.groups == 1:
            continue
        for conv in (selector.conv, selector.fc):
            rows, columns = conv.out_channels // conv.groups, conv.in_channels // conv.groups
            whole = conv.weight.new_zeros(conv.out_channels, conv.in_channels, *conv.kernel_size)
            for group, part in enumerate(conv.weight.detach().split(rows)):
                start = group * columns
                whole[group * rows : (group + 1) * rows, start : start + columns] = part
            conv.weight, conv.groups = nn.Parameter(whole, requires_grad=False), 1


def _compute_natively(module: Backbone) -> None:
    sparse = module.sparse_convolutions()
    for block in module.modules():
        if isinstance(block, ResidualBlock):
            layers = block.residual_layers()
            ours = all(conv in sparse and has_affine_form(norm) for conv, norm in layers)
            if ours and can_compute(block):
                block.native_rows = NativeRows(block)


def _pack(module: Backbone) -> None:
    sparse = module.sparse_convolutions()
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Conv2d and child not in sparse:
                setattr(parent, name, PackedConv2d(child))
    for block in module.modules():
        if isinstance(block, ResidualBlock):
            layers = block.residual_layers()
            # ReLU6 is fused where nothing is added.
            fuses = isinstance(block.relu, nn.ReLU if block.final_relu else nn.ReLU | nn.ReLU6)
            block.packed = fuses and all(
                isinstance(conv, PackedConv2d) and isinstance(norm, nn.Identity)
                for conv, norm in layers
            )
