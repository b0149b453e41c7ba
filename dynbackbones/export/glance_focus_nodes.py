"""The parts of Glance and Focus as ONNX nodes: looks, proposals, heads, and the loop over them."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import nn

from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.classifiers.encoder import Encoder
from dynbackbones.classifiers.glance_focus import GlanceFocusClassifier
from dynbackbones.classifiers.glance_focus.heads import CascadeHead, RecurrentHead
from dynbackbones.classifiers.glance_focus.proposal import PatchProposal
from dynbackbones.classifiers.glance_focus.torchvision_encoder import TorchvisionEncoder
from dynbackbones.errors import UserError
from dynbackbones.export import images as pixels
from dynbackbones.export import torchvision_layers
from dynbackbones.export.backbones import backbone_nodes
from dynbackbones.export.graph import Carried, Graph
from dynbackbones.export.layers import chain, layer

assert torchvision_layers  # makes their layers known


def add_walk(graph: Graph, net: GlanceFocusClassifier, images: str) -> None:
    """Adds the nodes of a network to a graph, its input ``exits`` and its outputs.

    Args:
        graph: the graph.
        net: on the CPU and in evaluation mode.
        images: (1, C, H, W), normalised.

    Raises:
        UserError: it cannot be exported.
    """
    exits = graph.input("exits", (net.steps,), net.exits)
    small = _glance(graph, images, net)
    last, vector = encoder_nodes(net.glance, graph, small)
    logits, state = _start(net.head, graph, vector, layer(net.glance.fc, graph, vector))
    logp = graph.node("LogSoftmax", logits, axis=1)
    memory = graph.weight(torch.zeros(1, net.proposal.width))
    start = [
        Carried(logp, (1, net.num_classes)),
        Carried(state, (1, None)),
        Carried(memory, (1, net.proposal.width)),
        Carried(last, (1, *net.proposal.map_shape)),
    ]

    def step(body: Graph, number: str, carried: list[str]) -> tuple[str, list[str], list[Carried]]:
        _, state, memory, last = carried
        memory, corner = _propose(body, net.proposal, last, memory, images, net.patch)
        end = body.node("Add", corner, body.weight([net.patch, net.patch]))
        crop = body.node("Slice", images, corner, end, body.weight([2, 3]))
        last, vector = encoder_nodes(net.local, body, crop)
        logits, state = _go_on(net.head, body, vector, state, number)
        logp = body.node("LogSoftmax", logits, axis=1)
        index = body.node("Add", number, body.weight(np.int64(1)))
        unsure = _unsure(body, logp, exits, index)
        return unsure, [logp, state, memory, last], [Carried(corner, (2,), "int64")]

    unsure = _unsure(graph, logp, exits, graph.weight(np.int64(0)))
    logp, _, _, _, corners = graph.loop(net.steps - 1, unsure, start, step, scanned=1)
    graph.output("logp", logp, (1, net.num_classes))
    crops = graph.node("Slice", graph.node("Shape", corners), graph.weight([0]), graph.weight([1]))
    graph.output("steps", graph.node("Add", crops, graph.weight([1])), (1,), "int64")
    graph.output("corners", corners, ("crops", 2), "int64")


def _unsure(graph: Graph, logp: str, exits: str, index: str) -> str:
    """Whether to look on, as a bool without axes: also where the confidence is NaN."""
    best = graph.node("Exp", graph.node("ReduceMax", logp, keepdims=0))
    return graph.node("Not", graph.node("GreaterOrEqual", best, graph.node("Gather", exits, index)))


def _glance(graph: Graph, images: str, net: GlanceFocusClassifier) -> str:
    size = graph.weight([net.patch, net.patch])
    if net.glance_mode == "bilinear":
        return pixels.resize(graph, images, size)
    return graph.node(
        "Resize", images, "", "", graph.weight([1, net.in_channels, net.patch, net.patch]),
        mode="cubic", cubic_coeff_a=-0.75, coordinate_transformation_mode="align_corners",
    )  # fmt: skip


@singledispatch
def encoder_nodes(encoder: nn.Module, graph: Graph, x: str) -> tuple[str, str]:
    """Adds the nodes of what looks, and returns its last map and the vector.

    Args:
        encoder: of a `GlanceFocusClassifier`.
        graph: the graph.
        x: (1, C, patch, patch).

    Raises:
        UserError: it cannot be exported.
    """
    raise UserError(f"a {type(encoder).__name__} as an encoder cannot be exported to ONNX")


@encoder_nodes.register
def _backbone(encoder: Encoder, graph: Graph, x: str) -> tuple[str, str]:
    if isinstance(encoder.backbone, DynamicBackbone):
        raise UserError(
            f"{encoder.backbone.title} decides itself, and cannot be exported as an encoder of "
            f"Glance and Focus: take a network without decisions"
        )
    last = backbone_nodes(encoder.backbone, graph, x, "").features[encoder.feature]
    return last, averaged(graph, last)


@encoder_nodes.register
def _torchvision(encoder: TorchvisionEncoder, graph: Graph, x: str) -> tuple[str, str]:
    model = encoder.model
    head = getattr(model, "classifier", None)
    if not isinstance(head, nn.Sequential):
        raise UserError(
            f"{encoder.name} as an encoder cannot be exported to ONNX: of torchvision's networks "
            "MobileNetV3 and EfficientNet can"
        )
    last = chain(graph, x, model.features)
    return last, chain(graph, averaged(graph, last), head[:-1])


def averaged(graph: Graph, x: str) -> str:
    """(1, C) means of a map."""
    return graph.node("ReduceMean", x, graph.weight([2, 3]), keepdims=0)


def _propose(
    graph: Graph, net: PatchProposal, last: str, memory: str, images: str, patch: int
) -> tuple[str, str]:
    """The next memory, and row and column of the next crop."""
    memory = recurrent_unit(graph, net.memory, chain(graph, last, net.encoder), memory)
    place = graph.node("Sigmoid", layer(net.actor, graph, memory))
    # As `corners_of` has it: in the middle, where it is not a number.
    place = graph.node("Where", graph.node("IsNaN", place), graph.weight(0.5), place)
    size = pixels.size_of(graph, images)
    room = graph.node("Sub", size, graph.weight([patch, patch]))
    room = graph.node("Cast", room, to=TensorProto.FLOAT)
    corner = graph.node("Floor", graph.node("Mul", place, room))
    corner = graph.node("Cast", corner, to=TensorProto.INT64)
    return memory, graph.node("Reshape", corner, graph.weight([2]))


def recurrent_unit(graph: Graph, unit: nn.GRUCell, x: str, state: str) -> str:
    """The next state of a recurrent unit."""
    parts = []
    for value, kind in ((x, "ih"), (state, "hh")):
        given = [getattr(unit, f"{name}_{kind}") for name in ("weight", "bias")]
        gates = graph.node("Gemm", value, *map(graph.weight, given), transB=1)
        parts.append(graph.nodes("Split", [gates], 3, axis=1, num_outputs=3))
    (reset, update, new), (reset_by, update_by, new_by) = parts
    reset = graph.node("Sigmoid", graph.node("Add", reset, reset_by))
    update = graph.node("Sigmoid", graph.node("Add", update, update_by))
    new = graph.node("Tanh", graph.node("Add", new, graph.node("Mul", reset, new_by)))
    return graph.node("Add", new, graph.node("Mul", update, graph.node("Sub", state, new)))


@singledispatch
def _start(head: RecurrentHead, graph: Graph, vector: str, own: str) -> tuple[str, str]:
    """Logits and state after the glance."""
    state = recurrent_unit(
        graph, head.unit, vector, graph.weight(torch.zeros(1, head.unit.hidden_size))
    )
    return layer(head.fc, graph, state), state


@_start.register
def _start_cascade(head: CascadeHead, graph: Graph, vector: str, own: str) -> tuple[str, str]:
    return own, vector


@singledispatch
def _go_on(
    head: RecurrentHead, graph: Graph, vector: str, state: str, number: str
) -> tuple[str, str]:
    """Logits and state after a crop, counted from 0."""
    state = recurrent_unit(graph, head.unit, vector, state)
    return layer(head.fc, graph, state), state


@_go_on.register
def _go_on_cascade(
    head: CascadeHead, graph: Graph, vector: str, state: str, number: str
) -> tuple[str, str]:
    state = graph.node("Concat", state, vector, axis=1)
    # One table of all layers, each with zeros for the vectors that it does not have.
    longest = head.layers[-1].in_features
    table = torch.stack(
        [F.pad(one.weight.t(), (0, 0, 0, longest - one.in_features)) for one in head.layers]
    )
    weight = graph.node("Gather", graph.weight(table), number)
    length = graph.node("Slice", graph.node("Shape", state), graph.weight([1]), graph.weight([2]))
    weight = graph.node("Slice", weight, graph.weight([0]), length, graph.weight([0]))
    bias = graph.weight(torch.stack([one.bias for one in head.layers]))
    product = graph.node("MatMul", state, weight)
    return graph.node("Add", product, graph.node("Gather", bias, number)), state
