"""Region grids in an ONNX graph, whose cells follow from the size of each image."""

from __future__ import annotations

import copy

import numpy as np
from onnx import TensorProto

from dynbackbones.backbones.sar.stage import SARStage
from dynbackbones.export.graph import Graph


def averaging_rows(graph: Graph, lower: str, upper: str, length: str) -> str:
    """Rows that average the entries [lower, upper) of an axis, (n, length) float32.

    Args:
        graph: where the nodes go.
        lower, upper: (n,) int64; an empty range gives a row of zeros.
        length: of the axis, a number.
    """
    pixel = graph.node("Range", graph.weight(np.int64(0)), length, graph.weight(np.int64(1)))
    lower, upper = (graph.node("Unsqueeze", x, graph.weight([1])) for x in (lower, upper))
    not_below = graph.node("GreaterOrEqual", pixel, lower)
    inside = graph.node("And", not_below, graph.node("Less", pixel, upper))
    weights = graph.node("Cast", inside, to=TensorProto.FLOAT)
    count = graph.node("ReduceSum", weights, graph.weight([1]))
    return graph.node("Div", weights, graph.node("Max", count, graph.weight(1.0)))


class Grid:
    """What `RegionGrid` does, on a map whose size the file learns.

    Args:
        graph: where its nodes go.
        x: the feature map, (N, C, H, W), that the stage refines.
        stage: whose cells it has.
        image: (2,), size of all images without padding; "" if there is none.
        stride: pixels of an image per pixel of the map.
    """

    def __init__(self, graph: Graph, x: str, stage: SARStage, image: str, stride: int) -> None:
        self._graph = graph
        self._scale = stage.base_scale
        self._valid_size = self._divided_up(image, stride) if image else ""
        shape = graph.node("Shape", x)
        self.size = graph.node("Slice", shape, graph.weight([2]), graph.weight([4]))
        lengths = [graph.node("Gather", shape, self._int(i)) for i in (2, 3)]
        edges = [self._edges(length, stage) for length in lengths]
        ends = [graph.node("Slice", e, *map(graph.weight, ([1], [2**31]))) for e in edges]
        self._cells = [self._cell_of(e, n) for e, n in zip(ends, lengths, strict=True)]
        if image:
            edges = [self._clipped(e, axis) for axis, e in enumerate(edges)]
            ends = [self._clipped(e, axis) for axis, e in enumerate(ends)]
        starts = [graph.node("Slice", e, *map(graph.weight, ([0], [-1]))) for e in edges]
        rows, columns = map(self._averaging, starts, ends, lengths)
        self._rows, self._columns = rows, graph.node("Transpose", columns)
        # Of each axis, which cells cover anything of the images.
        self._some = [graph.node("Less", *both) for both in zip(starts, ends, strict=True)]

    def on(self, branch: Graph) -> Grid:
        """The same grid, whose nodes go to a branch of its graph from now on."""
        grid = copy.copy(self)
        grid._graph = branch
        return grid

    def average_pool(self, x: str) -> str:
        """(N, C, H / scale, W / scale) to the mean of each cell, (N, C, R, S)."""
        rows = self._graph.node("MatMul", self._rows, x)
        return self._graph.node("MatMul", rows, self._columns)

    def inside(self, cells: str) -> str:
        """(N, G, R, S) bool, less the cells that cover nothing of the images."""
        rows, columns = self._some
        rows = self._graph.node("Unsqueeze", rows, self._graph.weight([1]))
        return self._graph.node("And", cells, self._graph.node("And", rows, columns))

    def spread(self, cells: str) -> str:
        """(N, G, R, S) with the values of the nearest cells inside, for those outside."""
        if not self._valid_size:
            return cells
        graph = self._graph
        for axis, some in ((2, self._some[0]), (3, self._some[1])):
            some = graph.node("Cast", some, to=TensorProto.INT64)
            count = graph.node("ReduceSum", some, keepdims=0)
            last = graph.node("Sub", count, self._int(1))
            index = self._range(graph.node("Gather", graph.node("Shape", cells), self._int(axis)))
            cells = graph.node("Gather", cells, graph.node("Min", index, last), axis=axis)
        return cells

    def without_padding(self, base: str) -> str:
        """What of a map of the base branch lies inside the images, (N, C, h, w)."""
        if not self._valid_size:
            return base
        graph = self._graph
        ends = self._divided_up(self._valid_size, self._scale)
        return graph.node("Slice", base, graph.weight([0, 0]), ends, graph.weight([2, 3]))

    def expand(self, cells: str) -> str:
        """(N, G, R, S) values of cells to (N, G, H, W) values of pixels."""
        rows = self._graph.node("Gather", cells, self._cells[0], axis=2)
        return self._graph.node("Gather", rows, self._cells[1], axis=3)

    def upsample(self, base: str) -> str:
        """(N, C, H / scale, W / scale) to (N, C, H, W), to the nearest pixel."""
        graph = self._graph
        scales = graph.weight([1.0, 1.0, self._scale, self._scale])
        way = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        x = graph.node("Resize", base, "", scales, mode="nearest", **way)
        return graph.node("Slice", x, graph.weight([0, 0]), self.size, graph.weight([2, 3]))

    def _edges(self, length: str, stage: SARStage) -> str:
        """Borders of the cells along an axis, (cells + 1,)."""
        graph = self._graph
        if stage.cell_size is None:
            steps = graph.weight(np.arange(stage.grid_size + 1))
            return self._divided_up(graph.node("Mul", steps, length), stage.grid_size)
        cell = self._int(stage.cell_size)
        cells = self._divided_up(length, stage.cell_size)
        steps = self._range(graph.node("Add", cells, self._int(1)))
        return graph.node("Min", graph.node("Mul", steps, cell), length)

    def _averaging(self, starts: str, ends: str, length: str) -> str:
        """Rows that average what each cell covers of an axis of the base branch's map."""
        lower = self._graph.node("Div", starts, self._int(self._scale))
        upper, length = (self._divided_up(value, self._scale) for value in (ends, length))
        return averaging_rows(self._graph, lower, upper, length)

    def _cell_of(self, ends: str, length: str) -> str:
        """Which cell each pixel of an axis lies in."""
        graph = self._graph
        pixel = graph.node("Unsqueeze", self._range(length), graph.weight([1]))
        behind = graph.node("GreaterOrEqual", pixel, ends)
        behind = graph.node("Cast", behind, to=TensorProto.INT64)
        return graph.node("ReduceSum", behind, graph.weight([1]), keepdims=0)

    def _clipped(self, edges: str, axis: int) -> str:
        length = self._graph.node("Gather", self._valid_size, self._int(axis))
        return self._graph.node("Min", edges, length)

    def _range(self, length: str) -> str:
        return self._graph.node("Range", self._int(0), length, self._int(1))

    def _divided_up(self, value: str, divisor: int) -> str:
        more = self._graph.node("Add", value, self._int(divisor - 1))
        return self._graph.node("Div", more, self._int(divisor))

    def _int(self, value: int) -> str:
        return self._graph.weight(np.int64(value))
