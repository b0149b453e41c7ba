"""SAR networks as ONNX nodes; a stage refines what it chose alone where that is little."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from onnx import TensorProto
from torch import Tensor, nn

from dynbackbones.backbones.sar.fusion import AddedBase, BaseAlone, Fusion, RefinementAlone
from dynbackbones.backbones.sar.network import SARBackbone
from dynbackbones.backbones.sar.paper_stage import PaperStage
from dynbackbones.backbones.sar.resnet_stage import ResNetStage
from dynbackbones.backbones.sar.stage import SARStage
from dynbackbones.errors import UserError
from dynbackbones.export import sar_rows
from dynbackbones.export.backbones import Choice, Exported, backbone_nodes
from dynbackbones.export.graph import Graph
from dynbackbones.export.grid import Grid
from dynbackbones.export.layers import chain, convolution, layer, shortcut, stem
from dynbackbones.layers.regions import RegionSelector
from dynbackbones.layers.residual import ResidualBlock

ROWS_RATE_LIMIT = 0.5
"""Share of the cells up to which a stage's refinement branch computes chosen pixels alone."""

_PREFIX = "masks_"


@backbone_nodes.register
def _sar(
    net: SARBackbone, graph: Graph, images: str, thresholds: str, size: str = ""
) -> Exported:
    x, features, choices = stem(graph, images, net), {}, {}
    bounds = [
        graph.node("Gather", thresholds, graph.weight(np.int64(index)))
        for index in range(len(net.thresholds()))
    ]
    for name, stage in net.stages().items():
        behind = isinstance(stage, PaperStage)
        x = x if behind else chain(graph, x, stage.whole_blocks())
        count = len(stage.selectors)
        grid = Grid(graph, x, stage, size, net.stage_stride(name))
        x, masks = _both_branches(graph, grid, x, stage, bounds[:count])
        bounds = bounds[count:]
        if name in net.feature_info:
            features[name] = x
        x = chain(graph, x, stage.whole_blocks()) if behind else x
        if masks:
            shape = ("batch", count, stage.groups, f"{name}_rows", f"{name}_columns")
            stacked = [graph.node("Unsqueeze", mask, graph.weight([1])) for mask in masks]
            choices[_PREFIX + name] = Choice(graph.node("Concat", *stacked, axis=1), shape)
    for name, module in net.behind().items():
        x = features[name] = chain(graph, x, module)
    if not choices:  # base branches alone decide nothing
        return Exported(features)
    rows = any(sar_rows.can_run(stage.refined_blocks()) for stage in net.stages().values())
    execution = "skips regions where few are chosen" if rows else "computes all and masks it"
    return Exported(features, choices, _masks_of, execution)


def _masks_of(choices: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {name: value for name, value in choices.items() if name.startswith(_PREFIX)}
    return {name.removeprefix(_PREFIX): value for name, value in found.items()}


def _both_branches(
    graph: Graph, grid: Grid, x: str, stage: SARStage, bounds: list[str]
) -> tuple[str, list[str]]:
    """The fusion of a stage's branches, and the masks of its blocks, (N, G, R, S) each."""
    base, outputs = layer(stage.base_pool, graph, x), []
    for block in stage.base:
        base = layer(block, graph, base)
        outputs.append(base)
    read = outputs[-len(bounds) :] if bounds else []
    masks = [
        _decide(graph, grid, *each) for each in zip(stage.selectors, read, bounds, strict=True)
    ]
    return fused(stage.fusion, graph, grid, base, _refined(graph, grid, x, stage, masks)), masks


def _refined(graph: Graph, grid: Grid, x: str, stage: SARStage, masks: list[str]) -> str:
    """The refinement branch: the chosen pixels alone where they are few, else all of them."""
    blocks = stage.refined_blocks()
    if not blocks:
        return x
    if isinstance(stage, ResNetStage):
        # What a ResNet makes of padding reaches into the image.
        masks = [grid.spread(mask) for mask in masks]
    of_blocks = stage.for_blocks(masks)

    def masked(branch: Graph) -> str:
        out = x
        for block, mask in zip(blocks, of_blocks, strict=True):
            out = _masked(branch, grid.on(branch), out, block, mask)
        return out

    def rows(branch: Graph) -> str:
        return sar_rows.refine(branch, x, grid.on(branch), blocks, of_blocks)

    if not sar_rows.can_run(blocks):
        return masked(graph)
    chosen = graph.node("Cast", graph.node("Concat", *masks, axis=1), to=TensorProto.FLOAT)
    few = graph.node("LessOrEqual", _mean(graph, chosen), graph.weight(ROWS_RATE_LIMIT))
    return graph.choose(few, rows, masked, (None, blocks[-1].out_channels, None, None))


def _mean(graph: Graph, x: str) -> str:
    return graph.node("ReduceMean", x, keepdims=0)


def _decide(graph: Graph, grid: Grid, selector: RegionSelector, base: str, bound: str) -> str:
    x = graph.node("Relu", convolution(graph, base, selector.conv, selector.bn))
    pooled = grid.average_pool(x)
    # One convolution for the difference of the logits, "select" minus "skip".
    weight, bias = selector.fc.weight, selector.fc.bias
    weight, bias = (graph.weight(both[1::2] - both[::2]) for both in (weight, bias))
    logits = graph.node("Conv", pooled, weight, bias, group=selector.groups)
    # As `RegionSelector.decide` has it: NaN selects.
    return grid.inside(graph.node("Not", graph.node("LessOrEqual", logits, bound)))


def _masked(graph: Graph, grid: Grid, x: str, block: ResidualBlock, mask: str) -> str:
    """A block of the refinement branch: its mask on the input of each convolution and the sum."""
    pixels = grid.expand(graph.node("Cast", mask, to=TensorProto.FLOAT))
    out = x
    for index, (conv, norm) in enumerate(block.residual_layers()):
        if index:
            out = layer(block.relu, graph, out)
        out = convolution(graph, _groups_times(graph, grid, out, pixels, block.groups), conv, norm)
    out = _groups_times(graph, grid, out, pixels, block.groups)
    out = graph.node("Add", out, shortcut(graph, x, block))
    return layer(block.relu, graph, out) if block.final_relu else out


def _groups_times(graph: Graph, grid: Grid, x: str, pixels: str, groups: int) -> str:
    """Each of G channel groups times a mask of its own, (N, G, H, W)."""
    if groups == 1:
        return graph.node("Mul", x, pixels)
    shape = graph.node("Concat", graph.weight([0, groups, -1]), grid.size, axis=0)
    grouped = graph.node("Reshape", x, shape)
    pixels = graph.node("Unsqueeze", pixels, graph.weight([2]))
    return graph.node("Reshape", graph.node("Mul", grouped, pixels), graph.node("Shape", x))


@singledispatch
def fused(fusion: nn.Module, graph: Graph, grid: Grid, base: str, refinement: str) -> str:
    """What joins the branches of a stage."""
    raise UserError(f"{type(fusion).__name__} of a SAR stage cannot be exported to ONNX")


@fused.register
def _fusion(fusion: Fusion, graph: Graph, grid: Grid, base: str, refinement: str) -> str:
    base = layer(fusion.base_projection, graph, base)
    refinement = layer(fusion.refinement_projection, graph, refinement)
    mean = graph.node("ReduceMean", grid.without_padding(base), graph.weight([2, 3]), keepdims=0)
    weight = layer(fusion.attention, graph, mean)
    weight = graph.node("Unsqueeze", weight, graph.weight([2, 3]))
    other = graph.node("Sub", graph.weight(1.0), weight)
    base = grid.upsample(graph.node("Mul", weight, base))
    out = graph.node("Add", base, graph.node("Mul", other, refinement))
    return graph.node("Relu", out) if fusion.final_relu else out


@fused.register
def _added_base(fusion: AddedBase, graph: Graph, grid: Grid, base: str, refinement: str) -> str:
    conv, norm = fusion.base_projection
    base = convolution(graph, base, conv, norm)
    base = grid.upsample(graph.node("Mul", base, graph.weight(fusion.scale)))
    return graph.node("Relu", graph.node("Add", refinement, base))


@fused.register
def _base_alone(fusion: BaseAlone, graph: Graph, grid: Grid, base: str, refinement: str) -> str:
    return graph.node("Relu", grid.upsample(layer(fusion.base_projection, graph, base)))


@fused.register
def _refinement_alone(
    fusion: RefinementAlone, graph: Graph, grid: Grid, base: str, refinement: str
) -> str:
    return graph.node("Relu", layer(fusion.refinement_projection, graph, refinement))
