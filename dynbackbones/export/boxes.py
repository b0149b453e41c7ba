"""From what a one-stage detector's heads say to boxes, as ONNX nodes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from onnx import TensorProto
from torch import Tensor

from dynbackbones.export.graph import Graph
from dynbackbones.export.images import size_of


class Candidates(NamedTuple):
    """Boxes in a graph.

    Attributes:
        boxes: (n, 4), x1, y1, x2, y2 in pixels.
        scores: (n,).
        labels: (n,) int64.
    """

    boxes: str
    scores: str
    labels: str


def by_anchor(graph: Graph, x: str, anchors: int, values: int) -> str:
    """A head's map, (1, A * values, H, W), as (H * W * A, values)."""
    lengths = graph.node("Concat", graph.weight([anchors, values]), size_of(graph, x), axis=0)
    x = graph.node("Transpose", graph.node("Reshape", x, lengths), perm=[2, 3, 0, 1])
    return graph.node("Reshape", x, graph.weight([-1, values]))


def grid_anchors(graph: Graph, feature: str, strides: str, cells: Tensor) -> str:
    """The anchors of a feature map, (H * W * A, 4).

    Args:
        graph: where the nodes go.
        feature: (1, C, H, W).
        strides: (2,) int64, pixels of the image per pixel of the map, down and across.
        cells: (A, 4), anchors around the origin.
    """
    size = size_of(graph, feature)
    lengths, steps = (
        [graph.node("Gather", both, graph.weight(np.int64(axis))) for axis in (0, 1)]
        for both in (size, strides)
    )
    shifts = []
    for axis in (1, 0):  # x before y
        zero, one = graph.weight(np.int64(0)), graph.weight(np.int64(1))
        index = graph.node("Range", zero, lengths[axis], one)
        along = graph.node("Mul", index, steps[axis])
        along = graph.node("Unsqueeze", along, graph.weight([1 - axis]))
        shifts.append(graph.node("Unsqueeze", graph.node("Expand", along, size), graph.weight([2])))
    shift = graph.node("Cast", graph.node("Concat", *shifts * 2, axis=2), to=TensorProto.FLOAT)
    shift = graph.node("Reshape", shift, graph.weight([-1, 1, 4]))
    anchors = graph.node("Add", shift, graph.weight(cells.float().unsqueeze(0)))
    return graph.node("Reshape", anchors, graph.weight([-1, 4]))


def best(
    graph: Graph, logits: str, offsets: str, anchors: str, classes: int, bound: str, limit: int
) -> Candidates:
    """The best of a feature map, their boxes still relative to the anchors'.

    Args:
        graph: where the nodes go.
        logits: (n, classes).
        offsets, anchors: (n, 4).
        classes: of each anchor.
        bound: score, (1,), above which a box counts.
        limit: how many are taken at most.
    """
    scores = graph.node("Sigmoid", graph.node("Reshape", logits, graph.weight([-1])))
    kept = graph.node("NonZero", graph.node("Greater", scores, bound))
    kept = graph.node("Reshape", kept, graph.weight([-1]))
    count = graph.node("Min", graph.node("Shape", kept), graph.weight([limit]))
    scores, order = graph.nodes("TopK", [graph.node("Gather", scores, kept), count], 2)
    index, number = graph.node("Gather", kept, order), graph.weight(np.int64(classes))
    anchor = graph.node("Div", index, number)
    chosen = [graph.node("Gather", values, anchor) for values in (offsets, anchors)]
    return Candidates(decode(graph, *chosen), scores, graph.node("Mod", index, number))


def decode(graph: Graph, offsets: str, anchors: str, largest: float = np.log(1000 / 16)) -> str:
    """Boxes from offsets of centre and logarithmic size, (n, 4) each.

    Args:
        graph: where the nodes go.
        offsets: dx, dy, dw, dh.
        anchors: x1, y1, x2, y2.
        largest: of dw and dh.
    """
    deltas, corners = (
        graph.nodes("Split", [x], 4, axis=1, num_outputs=4) for x in (offsets, anchors)
    )
    half, low, high = graph.weight(0.5), [], []
    for axis in (0, 1):
        length = graph.node("Sub", corners[axis + 2], corners[axis])
        centre = graph.node("Add", corners[axis], graph.node("Mul", half, length))
        centre = graph.node("Add", graph.node("Mul", deltas[axis], length), centre)
        growth = graph.node("Exp", graph.node("Min", deltas[axis + 2], graph.weight(largest)))
        reach = graph.node("Mul", half, graph.node("Mul", growth, length))
        low.append(graph.node("Sub", centre, reach))
        high.append(graph.node("Add", centre, reach))
    return graph.node("Concat", *low, *high, axis=1)


def joined(graph: Graph, levels: list[Candidates]) -> Candidates:
    """The candidates of all feature maps."""
    return Candidates(
        *(graph.node("Concat", *parts, axis=0) for parts in zip(*levels, strict=True))
    )


def clip(graph: Graph, boxes: str, size: str) -> str:
    """Boxes cut off at the borders of an image, whose height and width are (2,) int64."""
    limits = graph.node("Cast", size, to=TensorProto.FLOAT)
    limits = graph.node("Gather", limits, graph.weight([1, 0, 1, 0]))
    return graph.node("Min", graph.node("Max", boxes, graph.weight(0.0)), limits)


def suppress(
    graph: Graph, found: Candidates, classes: int, overlap: float, limit: int
) -> Candidates:
    """The best boxes, none of which overlaps with a better one of its class.

    Args:
        graph: where the nodes go.
        found: whose scores are above 0.
        classes: number of labels.
        overlap: intersection over union from which two boxes are the same object.
        limit: how many boxes come out at most.
    """
    label = graph.weight(np.arange(classes).reshape(1, -1, 1))
    own = graph.node("Equal", label, graph.node("Unsqueeze", found.labels, graph.weight([0, 1])))
    scores = graph.node("Unsqueeze", found.scores, graph.weight([0, 1]))
    kept = graph.node(
        "NonMaxSuppression",
        graph.node("Unsqueeze", found.boxes, graph.weight([0])),
        graph.node("Where", own, scores, graph.weight(0.0)),
        graph.weight([2**31 - 1]),
        graph.weight([overlap]),
        graph.weight([0.0]),
    )
    index = graph.node("Gather", kept, graph.weight(np.int64(2)), axis=1)
    values = graph.node("Gather", found.scores, index)
    count = graph.node("Min", graph.node("Shape", index), graph.weight([limit]))
    _, order = graph.nodes("TopK", [values, count], 2)
    index = graph.node("Gather", index, order)
    return Candidates(*(graph.node("Gather", part, index) for part in found))


def scaled(graph: Graph, boxes: str, before: str, after: str) -> str:
    """Boxes in pixels of an image of another size, both sizes (2,) int64."""
    lengths = (graph.node("Cast", size, to=TensorProto.DOUBLE) for size in (after, before))
    scale = graph.node("Cast", graph.node("Div", *lengths), to=TensorProto.FLOAT)
    return graph.node("Mul", boxes, graph.node("Gather", scale, graph.weight([1, 0, 1, 0])))


def without_empty(graph: Graph, found: Candidates) -> Candidates:
    """Those whose boxes have a width and a height."""
    corners = graph.nodes("Split", [found.boxes], 2, axis=1, num_outputs=2)
    sizes = graph.node("ReduceMin", graph.node("Sub", corners[1], corners[0]), graph.weight([1]))
    some = graph.node("Greater", graph.node("Squeeze", sizes, graph.weight([1])), graph.weight(0.0))
    return Candidates(*(graph.node("Compress", part, some, axis=0) for part in found))


def boxes_out(graph: Graph, found: Candidates) -> None:
    """Declares boxes to be the outputs of a file."""
    graph.output("boxes", found.boxes, ("detections", 4))
    graph.output("scores", found.scores, ("detections",))
    graph.output("labels", found.labels, ("detections",), "int64")
