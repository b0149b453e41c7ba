"""Region grids in an ONNX graph, whose cells follow from the size of each image."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from dynbackbones.backbones.sar.stage import SARStage
from dynbackbones.export.graph import Graph


class Grid:
    """What `RegionGrid` does for images without padding, on a map whose size the file learns.

    Args:
        graph: where its nodes go.
        x: the feature map, (N, C, H, W), that the stage refines.
        stage: whose cells it has.
    """

    def __init__(self, graph: Graph, x: str, stage: SARStage) -> None:
        self._graph = graph
        self._scale = stage.base_scale
        shape = graph.node("Shape", x)
        self.size = graph.node("Slice", shape, graph.weight([2]), graph.weight([4]))
        lengths = [graph.node("Gather", shape, graph.weight(np.int64(i))) for i in (2, 3)]
        edges = [self._edges(length, stage) for length in lengths]
        starts = [graph.node("Slice", e, *map(graph.weight, ([0], [-1]))) for e in edges]
        ends = [graph.node("Slice", e, *map(graph.weight, ([1], [2**31]))) for e in edges]
        rows, columns = map(self._averaging, starts, ends, lengths)
        self._rows, self._columns = rows, graph.node("Transpose", columns)
        some = [graph.node("Less", *both) for both in zip(starts, ends, strict=True)]
        some[0] = graph.node("Unsqueeze", some[0], graph.weight([1]))
        self._valid = graph.node("And", *some)
        self._cells = [self._cell_of(e, n) for e, n in zip(ends, lengths, strict=True)]

    def average_pool(self, x: str) -> str:
        """(N, C, H / scale, W / scale) to the mean of each cell, (N, C, R, S)."""
        rows = self._graph.node("MatMul", self._rows, x)
        return self._graph.node("MatMul", rows, self._columns)

    def inside(self, cells: str) -> str:
        """(N, G, R, S) bool, less the cells that K x K leave without a pixel of a small map."""
        return self._graph.node("And", cells, self._valid)

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
        cell = graph.weight(np.int64(stage.cell_size))
        cells = self._divided_up(length, stage.cell_size)
        one, zero = graph.weight(np.int64(1)), graph.weight(np.int64(0))
        steps = graph.node("Range", zero, graph.node("Add", cells, one), one)
        return graph.node("Min", graph.node("Mul", steps, cell), length)

    def _averaging(self, starts: str, ends: str, length: str) -> str:
        """Rows that average what each cell covers of an axis of the base branch's map."""
        graph = self._graph
        lower = graph.node("Div", starts, graph.weight(np.int64(self._scale)))
        upper = self._divided_up(ends, self._scale)
        pixel = self._range(self._divided_up(length, self._scale))
        lower, upper = (graph.node("Unsqueeze", x, graph.weight([1])) for x in (lower, upper))
        not_below = graph.node("GreaterOrEqual", pixel, lower)
        inside = graph.node("And", not_below, graph.node("Less", pixel, upper))
        weights = graph.node("Cast", inside, to=TensorProto.FLOAT)
        count = graph.node("ReduceSum", weights, graph.weight([1]))
        return graph.node("Div", weights, graph.node("Max", count, graph.weight(1.0)))

    def _cell_of(self, ends: str, length: str) -> str:
        """Which cell each pixel of an axis lies in."""
        graph = self._graph
        pixel = graph.node("Unsqueeze", self._range(length), graph.weight([1]))
        behind = graph.node("GreaterOrEqual", pixel, ends)
        behind = graph.node("Cast", behind, to=TensorProto.INT64)
        return graph.node("ReduceSum", behind, graph.weight([1]), keepdims=0)

    def _range(self, length: str) -> str:
        zero, one = self._graph.weight(np.int64(0)), self._graph.weight(np.int64(1))
        return self._graph.node("Range", zero, length, one)

    def _divided_up(self, value: str, divisor: int) -> str:
        graph = self._graph
        more = graph.node("Add", value, graph.weight(np.int64(divisor - 1)))
        return graph.node("Div", more, graph.weight(np.int64(divisor)))
