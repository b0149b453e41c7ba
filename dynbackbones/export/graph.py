"""An ONNX graph in the making: nodes, weights and branches, values by their names."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

import dynbackbones

OPSET = 18
"""The first whose Resize can smooth as PyTorch's does, and what runtimes of 2023 know."""
_IR_VERSION = 8
_TYPES = {
    "bool": TensorProto.BOOL,
    "float": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
}

Shape = Sequence[int | str | None]


class Carried(NamedTuple):
    """A value that goes through a loop, or that each turn adds to a list.

    Attributes:
        value: in the graph.
        shape: of it, in every turn.
        kind: of its elements.
    """

    value: str
    shape: Shape
    kind: str = "float"


Turn = Callable[["Graph", str, list[str]], tuple[str, list[str], list[Carried]]]
"""Adds the nodes of a turn to a graph: of its number and the values carried so far, whether there
is another turn, the values carried on, and those that are listed."""


class Graph:
    """Nodes in the order in which they run.

    Args:
        inside: the graph that this one is a branch of; it may use the values of that one.
    """

    def __init__(self, inside: Graph | None = None) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._known: dict[tuple, str] = {}
        self._numbers: Iterator[int] = inside._numbers if inside else itertools.count()

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output, and returns the output."""
        (output,) = self.nodes(kind, inputs, 1, **attributes)
        return output

    def nodes(
        self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        """Adds a node, and returns its outputs; an input ``""`` is left out."""
        names = [self._name(kind) for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, names[0], **attributes))
        return names

    def weight(self, value: Tensor | np.ndarray | float | Sequence) -> str:
        """A constant of this graph: float32 and int64 where Python's numbers are given."""
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        value = np.asarray(value)
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        return self._constant(value)

    def double(self, value: float) -> str:
        """A constant of double precision, which sizes are reckoned in."""
        return self._constant(np.asarray(value, np.float64))

    def _constant(self, value: np.ndarray) -> str:
        # A head that runs on five maps is in the file once.
        key = (value.dtype, value.shape, hashlib.sha256(value.tobytes()).digest())
        if key not in self._known:
            self._known[key] = name = self._name("weight")
            self._weights.append(numpy_helper.from_array(value, name))
        return self._known[key]

    def choose(
        self,
        condition: str,
        chosen: Callable[[Graph], str],
        otherwise: Callable[[Graph], str],
        shape: Shape,
    ) -> str:
        """The value of one of two branches; only that one is computed.

        A branch's weights lie in its own graph, where runtimes bring them into the layout that
        they compute in; outside they do not (a quarter slower in ONNX Runtime).

        Args:
            condition: a bool of one element.
            chosen, otherwise: add the nodes of a branch to a graph, and return its value.
            shape: of both values.
        """
        branches = []
        for name, fill in (("then", chosen), ("else", otherwise)):
            branch = Graph(inside=self)
            # A branch returns what it has computed, so something must be, if only a copy.
            branch.output(self._name(name), fill(branch), shape)
            branches.append(branch._proto(name))
        return self.node("If", condition, then_branch=branches[0], else_branch=branches[1])

    def loop(
        self, turns: int, condition: str, start: Sequence[Carried], turn: Turn, scanned: int = 0
    ) -> list[str]:
        """Values carried through turns until there is no other one, then those that were listed.

        Args:
            turns: how many there are at most.
            condition: a bool of one element, whether there is a first one.
            start: what is carried into it.
            turn: adds a turn's nodes to a graph, which is computed as often as there are turns.
            scanned: how many values each turn lists.
        """
        body = Graph(inside=self)
        number = body.input(self._name("turn"), (), kind="int64")
        body.input(self._name("condition"), (), kind="bool")
        names = [body.input(self._name("carried"), one.shape, kind=one.kind) for one in start]
        another, carried, listed = turn(body, number, names)
        body.output(self._name("another"), another, (), "bool")
        for value, one in zip(carried, start, strict=True):
            body.output(self._name("carried"), value, one.shape, one.kind)
        for value, shape, kind in listed:
            body.output(self._name("listed"), value, shape, kind)
        inputs = [self.weight(np.int64(turns)), condition, *(one.value for one in start)]
        return self.nodes("Loop", inputs, len(start) + scanned, body=body._proto("turn"))

    def input(
        self, name: str, shape: Shape, default: Tensor | None = None, kind: str = "float"
    ) -> str:
        """Declares an input, which may be left out where it has a default."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[kind], shape))
        if default is not None:
            self._weights.append(numpy_helper.from_array(default.detach().cpu().numpy(), name))
        return name

    def output(self, name: str, value: str, shape: Shape, kind: str = "float") -> None:
        """Declares a value to be an output of this name."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name))
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[kind], shape))

    def _name(self, kind: str) -> str:
        return f"{kind.lower()}_{next(self._numbers)}"

    def _proto(self, name: str) -> onnx.GraphProto:
        return helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=self._weights
        )

    def model(self, title: str, meta: Mapping[str, str] | None = None) -> onnx.ModelProto:
        """The file, checked for what ONNX asks of one.

        Args:
            title: of the graph.
            meta: what else the file says of itself.
        """
        model = helper.make_model(
            self._proto(title),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="dynbackbones",
            producer_version=dynbackbones.__version__,
        )
        helper.set_model_props(model, dict(meta or {}))
        onnx.checker.check_model(model)
        return model
