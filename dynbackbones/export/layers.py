"""Layers as ONNX nodes: what `forward` of each does in evaluation, norms folded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import singledispatch

from torch import nn

from dynbackbones.errors import UserError
from dynbackbones.export.graph import Graph
from dynbackbones.layers.cifar import ZeroChannels
from dynbackbones.layers.inverted import InvertedResidual
from dynbackbones.layers.norm import fold_norm, has_affine_form
from dynbackbones.layers.residual import ResidualBlock
from dynbackbones.layers.stem import stem_layers


@singledispatch
def layer(module: nn.Module, graph: Graph, x: str) -> str:
    """Adds the nodes of a layer to a graph.

    Args:
        module: the layer; `layer.register` makes others known.
        graph: the graph.
        x: the layer's input.

    Returns:
        Its output.

    Raises:
        UserError: this layer is not known.
    """
    raise UserError(
        f"{type(module).__name__} cannot be exported to ONNX: replace it, or teach it to "
        "dynbackbones.export.layers.layer with layer.register"
    )


def chain(graph: Graph, x: str, layers: Iterable[nn.Module]) -> str:
    """Layers one after another; a norm layer behind a convolution becomes part of it."""
    waiting = deque(layers)
    while waiting:
        module = waiting.popleft()
        if isinstance(module, nn.Conv2d):
            folds = waiting and has_affine_form(waiting[0])
            x = convolution(graph, x, module, waiting.popleft() if folds else None)
        else:
            x = layer(module, graph, x)
    return x


def convolution(graph: Graph, x: str, conv: nn.Conv2d, norm: nn.Module | None = None) -> str:
    """A convolution, and the norm layer behind it if there is one."""
    if norm is not None and not has_affine_form(norm):
        return layer(norm, graph, convolution(graph, x, conv))
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise UserError(
            f"padding_mode={conv.padding_mode!r}, padding={conv.padding!r} of a convolution cannot "
            "be exported to ONNX: pad with zeros, by numbers"
        )
    weight, bias = fold_norm(conv, norm or nn.Identity())
    return graph.node(
        "Conv",
        x,
        graph.weight(weight),
        graph.weight(bias),
        kernel_shape=list(conv.kernel_size),
        strides=list(conv.stride),
        pads=[*conv.padding, *conv.padding],
        dilations=list(conv.dilation),
        group=conv.groups,
    )


def stem(graph: Graph, images: str, net: nn.Module) -> str:
    """What `run_stem` does."""
    own_relu = [] if hasattr(net, "stem") else [net.relu]
    return chain(graph, images, [*stem_layers(net), *own_relu, net.maxpool])


def residual(graph: Graph, x: str, block: ResidualBlock) -> str:
    """A block's residual branch."""
    for index, (conv, norm) in enumerate(block.residual_layers()):
        if index:
            x = layer(block.relu, graph, x)
        x = convolution(graph, x, conv, norm)
    return x


def shortcut(graph: Graph, x: str, block: ResidualBlock) -> str:
    """The path around a block's residual branch."""
    return x if block.downsample is None else layer(block.downsample, graph, x)


@layer.register
def _residual_block(block: ResidualBlock, graph: Graph, x: str) -> str:
    out = residual(graph, x, block)
    if isinstance(block, InvertedResidual) and not block.has_shortcut:
        return out
    out = graph.node("Add", out, shortcut(graph, x, block))
    return layer(block.relu, graph, out) if block.final_relu else out


@layer.register
def _sequential(module: nn.Sequential, graph: Graph, x: str) -> str:
    return chain(graph, x, module)


@layer.register
def _convolution(module: nn.Conv2d, graph: Graph, x: str) -> str:
    return convolution(graph, x, module)


@layer.register
def _linear(module: nn.Linear, graph: Graph, x: str) -> str:
    parts = [graph.weight(module.weight)]
    if module.bias is not None:
        parts.append(graph.weight(module.bias))
    return graph.node("Gemm", x, *parts, transB=1)


@layer.register
def _relu(module: nn.ReLU, graph: Graph, x: str) -> str:
    return graph.node("Relu", x)


@layer.register
def _relu6(module: nn.ReLU6, graph: Graph, x: str) -> str:
    return graph.node("Clip", x, graph.weight(0.0), graph.weight(6.0))


@layer.register
def _sigmoid(module: nn.Sigmoid, graph: Graph, x: str) -> str:
    return graph.node("Sigmoid", x)


@layer.register
def _identity(module: nn.Identity, graph: Graph, x: str) -> str:
    return x


@layer.register
def _flatten(module: nn.Flatten, graph: Graph, x: str) -> str:
    return graph.node("Flatten", x, axis=module.start_dim)


@layer.register
def _group_norm(module: nn.GroupNorm, graph: Graph, x: str) -> str:
    groups = module.num_groups
    rows = graph.node("Reshape", x, graph.weight([0, groups, -1]))
    one, none = graph.weight([1.0] * groups), graph.weight([0.0] * groups)
    rows = graph.node("InstanceNormalization", rows, one, none, epsilon=module.eps)
    x = graph.node("Reshape", rows, graph.node("Shape", x))
    x = graph.node("Mul", x, graph.weight(module.weight.view(-1, 1, 1)))
    return graph.node("Add", x, graph.weight(module.bias.view(-1, 1, 1)))


@layer.register
def _max_pool(module: nn.MaxPool2d, graph: Graph, x: str) -> str:
    return graph.node("MaxPool", x, **_window(module))


@layer.register
def _average_pool(module: nn.AvgPool2d, graph: Graph, x: str) -> str:
    # Without padding, a window at the border averages what there is of it, in PyTorch too.
    counts = int(module.count_include_pad and any(_pair(module.padding)))
    return graph.node("AveragePool", x, count_include_pad=counts, **_window(module))


@layer.register
def _zero_channels(module: ZeroChannels, graph: Graph, x: str) -> str:
    return graph.node("Pad", x, graph.weight([0, 0, 0, 0, 0, module.added, 0, 0]))


def _window(module: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, list[int] | int]:
    return {
        "kernel_shape": _pair(module.kernel_size),
        "strides": _pair(module.stride),
        "pads": _pair(module.padding) * 2,
        "ceil_mode": int(module.ceil_mode),
    }


def _pair(value: int | tuple[int, int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
