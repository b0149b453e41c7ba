"""BlockDrop networks as ONNX nodes: the policy network first, then an ``If`` for each block."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from onnx import TensorProto
from torch import Tensor, nn

from dynbackbones.backbones.blockdrop.network import BlockDropBackbone
from dynbackbones.backbones.blockdrop.resnet import BlockDropCifarResNet, BlockDropResNet
from dynbackbones.errors import UserError
from dynbackbones.export.backbones import Choice, Exported, backbone_nodes
from dynbackbones.export.graph import Graph
from dynbackbones.export.images import resize, size_of
from dynbackbones.export.layers import chain, layer, shortcut, stem
from dynbackbones.layers.residual import ResidualBlock
from dynbackbones.policy.network import PolicyNetwork


@backbone_nodes.register
def _blockdrop(
    net: BlockDropBackbone, graph: Graph, images: str, thresholds: str, size: str = ""
) -> Exported:
    seen = images
    if size:
        seen = graph.node("Slice", images, graph.weight([0, 0]), size, graph.weight([2, 3]))
    probabilities = _probabilities(graph, policy_view(net, graph, seen), net.policy)
    bound = graph.node("Sigmoid", thresholds)
    # As `greedy_actions` has it: where a probability is NaN the block runs.
    policy = graph.node("Not", graph.node("LessOrEqual", probabilities, bound))
    keep = graph.node("Reshape", policy, graph.weight([net.num_blocks]))
    x, features, index = stem(graph, images, net), {}, 0
    for name, stage in net.stages().items():
        for block in stage:
            kept = graph.node("Gather", keep, graph.weight(np.int64(index)))
            x, index = _droppable(graph, x, block, kept), index + 1
        features[name] = x
    return Exported(
        features,
        {
            "policy": Choice(policy, (1, net.num_blocks)),
            "probabilities": Choice(probabilities, (1, net.num_blocks), "float"),
        },
        _policy_of,
        "skips blocks",
        batch=1,
    )


def _policy_of(choices: dict[str, Tensor]) -> Tensor:
    return choices["policy"]


def _droppable(graph: Graph, x: str, block: ResidualBlock, kept: str) -> str:
    return graph.choose(
        kept,
        lambda branch: layer(block, branch, x),
        lambda branch: shortcut(branch, x, block),
        (1, block.out_channels, None, None),
    )


def _probabilities(graph: Graph, view: str, policy: PolicyNetwork) -> str:
    if policy.places is not None:
        raise UserError(f"a policy network with places={policy.places} cannot be exported")
    x = stem(graph, view, policy)
    x = chain(graph, x, [module for n, module in policy.named_children() if "layer" in n])
    x = graph.node("ReduceMean", x, graph.weight([2, 3]), keepdims=0)
    return graph.node("Sigmoid", layer(policy.fc, graph, x))


@singledispatch
def policy_view(net: BlockDropBackbone, graph: Graph, images: str) -> str:
    """What the policy network sees of images."""
    raise UserError(f"the view of the policy of {type(net).__name__} cannot be exported to ONNX")


@policy_view.register
def _cifar_view(net: BlockDropCifarResNet, graph: Graph, images: str) -> str:
    return images


@policy_view.register
def _resized_view(net: BlockDropResNet, graph: Graph, images: str) -> str:
    if net.policy_size is not None:
        images = _with_short_side(graph, images, net.policy_size)
    return layer(nn.AvgPool2d(2, ceil_mode=True), graph, images)


def _with_short_side(graph: Graph, images: str, length: int) -> str:
    """Images resized as `BlockDropResNet` does, whose rounding is that of double precision."""
    size = graph.node("Cast", size_of(graph, images), to=TensorProto.DOUBLE)
    scale = graph.node("Div", graph.double(length), graph.node("ReduceMin", size, keepdims=1))
    size = graph.node("Round", graph.node("Mul", size, scale))
    return resize(graph, images, graph.node("Cast", size, to=TensorProto.INT64))
