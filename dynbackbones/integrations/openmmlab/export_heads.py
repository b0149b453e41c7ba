"""Heads and necks of mmseg's segmentors, and the layers they are made of, as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import numpy as np
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import ASPPHead, FCNHead, FPNHead, PSPHead
from mmseg.models.necks import FPN
from mmseg.models.utils import Upsample
from torch import nn

from dynbackbones.errors import UserError
from dynbackbones.export import images
from dynbackbones.export.graph import Graph
from dynbackbones.export.grid import averaging_rows
from dynbackbones.export.layers import chain, layer

REMEDY = "add --part backbone"


@singledispatch
def decode(head: nn.Module, graph: Graph, features: Sequence[str]) -> str:
    """The logits that a head makes of feature maps, of which it selects its own.

    Raises:
        UserError: it cannot be exported.
    """
    raise UserError(
        f"a {type(head).__name__} cannot be exported, only an FCNHead, a PSPHead, an ASPPHead or "
        f"an FPNHead: {REMEDY}"
    )


@decode.register
def _fcn(head: FCNHead, graph: Graph, features: Sequence[str]) -> str:
    # ASPPHead and PSPHead are none of these, but others of mmseg's are.
    if type(head) is not FCNHead:
        raise UserError(f"a {type(head).__name__} cannot be exported: {REMEDY}")
    x = features[head.in_index]
    out = layer(head.convs, graph, x)
    if head.concat_input:
        out = layer(head.conv_cat, graph, graph.node("Concat", x, out, axis=1))
    return layer(head.conv_seg, graph, out)


@decode.register
def _fpn(head: FPNHead, graph: Graph, features: Sequence[str]) -> str:
    first, *others = (
        layer(scale, graph, features[index])
        for scale, index in zip(head.scale_heads, head.in_index, strict=True)
    )
    for other in others:
        size = images.size_of(graph, first)
        first = graph.node(
            "Add", first, images.interpolate(graph, other, size, head.align_corners)
        )
    return layer(head.conv_seg, graph, first)


@decode.register
def _psp(head: PSPHead, graph: Graph, features: Sequence[str]) -> str:
    x = features[head.in_index]
    size = images.size_of(graph, x)
    grown = [
        images.interpolate(graph, layer(module, graph, x), size, head.align_corners)
        for module in head.psp_modules
    ]
    joined = graph.node("Concat", x, *grown, axis=1)
    return chain(graph, joined, [head.bottleneck, head.conv_seg])


@decode.register
def _aspp(head: ASPPHead, graph: Graph, features: Sequence[str]) -> str:
    x = features[head.in_index]
    whole = layer(head.image_pool, graph, x)
    parts = [images.interpolate(graph, whole, images.size_of(graph, x), head.align_corners)]
    parts += [layer(module, graph, x) for module in head.aspp_modules]
    joined = graph.node("Concat", *parts, axis=1)
    return chain(graph, joined, [head.bottleneck, head.conv_seg])


@singledispatch
def neck_nodes(neck: nn.Module, graph: Graph, features: Sequence[str]) -> list[str]:
    """The maps that a neck makes of feature maps.

    Raises:
        UserError: it cannot be exported.
    """
    raise UserError(
        f"a segmentor with a {type(neck).__name__} cannot be exported as a whole, only with an FPN "
        f"or without a neck: {REMEDY}"
    )


@neck_nodes.register
def _pyramid(neck: FPN, graph: Graph, features: Sequence[str]) -> list[str]:
    if neck.upsample_cfg != {"mode": "nearest"} or neck.num_outs > len(neck.lateral_convs):
        raise UserError(
            f"an FPN with upsample_cfg={neck.upsample_cfg} or more outputs than levels cannot be "
            f"exported: {REMEDY}"
        )
    chosen = features[neck.start_level : neck.start_level + len(neck.lateral_convs)]
    maps = [layer(m, graph, x) for m, x in zip(neck.lateral_convs, chosen, strict=True)]
    for level in range(len(maps) - 1, 0, -1):
        grown = images.grown(graph, maps[level], maps[level - 1])
        maps[level - 1] = graph.node("Add", maps[level - 1], grown)
    return [layer(m, graph, x) for m, x in zip(neck.fpn_convs, maps, strict=True)]


@layer.register
def _upsample(module: Upsample, graph: Graph, x: str) -> str:
    if module.mode != "bilinear" or module.size or module.scale_factor != 2:
        raise UserError(f"an Upsample other than bilinear by 2 cannot be exported: {REMEDY}")
    size = graph.node("Mul", images.size_of(graph, x), graph.weight([2, 2]))
    return images.interpolate(graph, x, size, bool(module.align_corners))


@layer.register
def _conv_module(module: ConvModule, graph: Graph, x: str) -> str:
    if module.with_explicit_padding or module.with_spectral_norm:
        raise UserError(f"a ConvModule of its own padding or norm cannot be exported: {REMEDY}")
    parts = {
        "conv": module.conv,
        "norm": module.norm if module.with_norm else None,
        "act": module.activate if module.with_activation else None,
    }
    return chain(graph, x, [parts[name] for name in module.order if parts[name] is not None])


@layer.register
def _adaptive_pool(module: nn.AdaptiveAvgPool2d, graph: Graph, x: str) -> str:
    count = module.output_size
    if count == 1:
        return graph.node("ReduceMean", x, graph.weight([2, 3]))
    shape, matrices = graph.node("Shape", x), []
    number, one = graph.weight(np.int64(count)), graph.weight(np.int64(1))
    for axis in (2, 3):
        length = graph.node("Gather", shape, graph.weight(np.int64(axis)))
        starts = graph.node("Mul", graph.weight(np.arange(count)), length)
        ends = graph.node("Mul", graph.weight(np.arange(1, count + 1)), length)
        # Rounded down where a window begins, and up where it ends.
        ends = graph.node("Add", ends, graph.node("Sub", number, one))
        bounds = [graph.node("Div", edges, number) for edges in (starts, ends)]
        matrices.append(averaging_rows(graph, *bounds, length))
    rows = graph.node("MatMul", matrices[0], x)
    return graph.node("MatMul", rows, graph.node("Transpose", matrices[1]))
