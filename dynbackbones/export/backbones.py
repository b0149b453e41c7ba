"""Backbones as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, NamedTuple

from torch import Tensor

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.static import StaticBackbone
from dynbackbones.errors import UserError
from dynbackbones.export.graph import Graph, Shape
from dynbackbones.export.layers import chain, stem


class Choice(NamedTuple):
    """A value that says what a network chose.

    Attributes:
        value: in the graph.
        shape: of it.
        kind: of its elements.
    """

    value: str
    shape: Shape
    kind: str = "bool"


@dataclass
class Exported:
    """What a backbone became in a graph.

    Attributes:
        features: by name, the values of its feature maps.
        choices: by name, what it chose.
        selection: from what the file returned of ``choices`` to what `select` of the network
            takes, so that the network can be made to do the same; None where nothing is chosen.
        execution: how, in a few words.
        batch: images that the file takes at a time; a name stands for any number.
    """

    features: dict[str, str]
    choices: dict[str, Choice] = field(default_factory=dict)
    selection: Callable[[dict[str, Tensor]], Any] | None = None
    execution: str = "static"
    batch: int | str = "batch"


@singledispatch
def backbone_nodes(
    net: Backbone, graph: Graph, images: str, thresholds: str, size: str = ""
) -> Exported:
    """Adds the nodes of a backbone to a graph.

    Args:
        net: the backbone, on the CPU and in evaluation mode; `backbone_nodes.register` makes
            others known.
        graph: the graph.
        images: float32, normalised as in training; (1, C, H, W) for networks that decide.
        thresholds: (T,) float32, for `DynamicBackbone.thresholds`; "" for networks that have none.
        size: (2,) int64, height and width of one image without padding; "" if there is none.

    Raises:
        UserError: it cannot be exported.
    """
    raise UserError(
        f"{type(net).__name__} cannot be exported to ONNX: only ResNet, SARResNet, BlockDropResNet "
        "and their CIFAR forms, MobileNetV2 and SARMobileNetV2 can, and what "
        "dynbackbones.export.backbones.backbone_nodes.register makes known"
    )


@backbone_nodes.register
def _static(
    net: StaticBackbone, graph: Graph, images: str, thresholds: str, size: str = ""
) -> Exported:
    x, features = stem(graph, images, net), {}
    for name, modules in net.stages().items():
        x = features[name] = chain(graph, x, modules)
    return Exported(features)
