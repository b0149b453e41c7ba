"""A SAR stage's refinement branch as ONNX nodes that compute the chosen pixels alone.

A pixel of a channel group is a row of a matrix: those that are chosen are gathered, 1x1
convolutions are products of matrices, 3x3 ones too, of each pixel's nine neighbours, which are
looked up in a map that is zero where nothing was chosen. What comes out is put back among the
shortcut's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from dynbackbones.export.graph import Graph
from dynbackbones.export.grid import Grid
from dynbackbones.export.layers import shortcut
from dynbackbones.layers.norm import fold_norm, has_affine_form
from dynbackbones.layers.residual import ResidualBlock


class Chosen(NamedTuple):
    """The chosen pixels of a channel group.

    Attributes:
        rows: (P,), their numbers in a map of N * H * W pixels.
        padded: (P, 1), in one with a border as wide as a 3x3 convolution reaches.
    """

    rows: str
    padded: str


class Padded(NamedTuple):
    """A map with a border.

    Attributes:
        pixels: how many it has, (1,).
        width: of a line, a number.
        border: as wide as a 3x3 convolution reaches.
    """

    pixels: str
    width: str
    border: int


def can_run(blocks: Sequence[ResidualBlock]) -> bool:
    """Whether blocks are products of matrices: plain, no stride, and norm layers that fold."""
    pairs = [(block, *pair) for block in blocks for pair in block.residual_layers()]
    return all(block.is_plain for block in blocks) and all(
        has_affine_form(norm)
        and conv.stride == (1, 1)
        and conv.dilation[0] == (block.dilation if conv.kernel_size[0] == 3 else 1)
        for block, conv, norm in pairs
    )


def refine(
    graph: Graph, x: str, grid: Grid, blocks: Sequence[ResidualBlock], masks: Sequence[str]
) -> str:
    """The refinement branch: (N, C, H, W) to (N, C', H, W).

    Args:
        graph: where the nodes go.
        x: what the branch sees.
        grid: of the stage, bound to ``graph``.
        blocks: of the branch, for which `can_run` holds.
        masks: (N, G, R, S) bool for each.
    """
    shape = graph.node("Shape", x)
    lengths = [graph.node("Gather", shape, _int(graph, axis)) for axis in (0, 2, 3)]
    size = graph.node("Gather", shape, graph.weight([0, 2, 3]))
    flat, positive = _flat(graph, x), False
    for index, (block, mask) in enumerate(zip(blocks, masks, strict=True)):
        beside = flat
        if block.downsample is not None:
            maps = _maps(graph, flat, size, block.in_channels) if index else x
            beside, positive = _flat(graph, shortcut(graph, maps, block)), False
        padded, pixels = _padded(graph, block.dilation, lengths), grid.expand(mask)
        chosen = [_chosen(graph, pixels, g, padded, lengths) for g in range(block.groups)]
        flat = _refined(graph, flat, beside, positive, block, chosen, padded)
        positive = block.final_relu
    return _maps(graph, flat, size, blocks[-1].out_channels)


def _refined(
    graph: Graph,
    flat: str,
    beside: str,
    positive: bool,
    block: ResidualBlock,
    groups: Sequence[Chosen],
    padded: Padded,
) -> str:
    """What a block makes of its input and its shortcut, a row for each pixel and group."""
    flat = graph.node("Reshape", flat, graph.weight([-1, block.in_channels // block.groups]))
    beside = graph.node("Reshape", beside, graph.weight([-1, block.out_channels // block.groups]))
    places, values = [], []
    for number, chosen in enumerate(groups):
        place = graph.node("Mul", chosen.rows, _int(graph, block.groups))
        place = graph.node("Add", place, _int(graph, number))
        x = graph.node("Gather", flat, place)
        for index, (conv, norm) in enumerate(block.residual_layers()):
            x = graph.node("Relu", x) if index else x
            x = _convolved(graph, x, conv, norm, number, chosen.padded, padded)
        values.append(graph.node("Add", x, graph.node("Gather", beside, place)))
        places.append(graph.node("Unsqueeze", place, graph.weight([1])))
    place, x = (graph.node("Concat", *parts, axis=0) for parts in (places, values))
    if block.final_relu:
        x = graph.node("Relu", x)
        beside = beside if positive else graph.node("Relu", beside)
    return graph.node("ScatterND", beside, place, x)


def _convolved(
    graph: Graph,
    x: str,
    conv: nn.Conv2d,
    norm: nn.Module,
    group: int,
    places: str,
    padded: Padded,
) -> str:
    """A convolution of a group's chosen pixels, (P, C), with its norm layer."""
    weight, bias = (part.chunk(conv.groups)[group] for part in fold_norm(conv, norm))
    if conv.kernel_size == (3, 3):
        channels = weight.shape[1]
        lengths = graph.node("Concat", padded.pixels, graph.weight([channels]), axis=0)
        none = graph.node("ConstantOfShape", lengths)  # of float32
        d = padded.border
        lines = graph.node("Mul", graph.weight([-d] * 3 + [0] * 3 + [d] * 3), padded.width)
        nine = graph.node("Add", lines, graph.weight([-d, 0, d] * 3))
        spread = graph.node("ScatterND", none, places, x)
        around = graph.node("Gather", spread, _sum(graph, places, nine))
        x = graph.node("Reshape", around, graph.weight([0, 9 * channels]))
    matrix = graph.weight(weight.permute(2, 3, 1, 0).flatten(0, 2))
    return graph.node("Gemm", x, matrix, graph.weight(bias))


def _chosen(
    graph: Graph, pixels: str, group: int, padded: Padded, lengths: Sequence[str]
) -> Chosen:
    """Where the (N, G, H, W) bool of one group are true."""
    _, height, width = lengths
    mask = graph.node("Gather", pixels, _int(graph, group), axis=1)
    found = graph.node("NonZero", graph.node("Reshape", mask, graph.weight([-1])))
    rows = graph.node("Squeeze", found, graph.weight([0]))
    line = graph.node("Div", rows, width)
    image = graph.node("Div", line, height)
    # Each image has a border above and below, each line one left and right.
    borders = graph.node("Mul", image, _int(graph, 2 * padded.border))
    line = _sum(graph, line, graph.node("Add", borders, _int(graph, padded.border)))
    column = _sum(graph, graph.node("Mod", rows, width), _int(graph, padded.border))
    place = _sum(graph, graph.node("Mul", line, padded.width), column)
    return Chosen(rows, graph.node("Unsqueeze", place, graph.weight([1])))


def _padded(graph: Graph, border: int, lengths: Sequence[str]) -> Padded:
    images, height, width = lengths
    both = _int(graph, 2 * border)
    width, height = _sum(graph, width, both), _sum(graph, height, both)
    pixels = graph.node("Mul", images, graph.node("Mul", height, width))
    return Padded(graph.node("Unsqueeze", pixels, graph.weight([0])), width, border)


def _flat(graph: Graph, x: str) -> str:
    return graph.node("Transpose", x, perm=[0, 2, 3, 1])


def _maps(graph: Graph, flat: str, size: str, channels: int) -> str:
    shape = graph.node("Concat", size, graph.weight([channels]), axis=0)
    return graph.node("Transpose", graph.node("Reshape", flat, shape), perm=[0, 3, 1, 2])


def _sum(graph: Graph, a: str, b: str) -> str:
    return graph.node("Add", a, b)


def _int(graph: Graph, value: int) -> str:
    return graph.weight(np.int64(value))
