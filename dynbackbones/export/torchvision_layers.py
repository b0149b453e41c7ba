"""Layers of torchvision's MobileNetV3 and EfficientNet as ONNX nodes."""

from __future__ import annotations

from torch import nn
from torchvision.models.efficientnet import MBConv
from torchvision.models.mobilenetv3 import InvertedResidual
from torchvision.ops import SqueezeExcitation, StochasticDepth

from dynbackbones.export.graph import Graph
from dynbackbones.export.layers import chain, layer


@layer.register
def _hard_swish(module: nn.Hardswish, graph: Graph, x: str) -> str:
    return graph.node("HardSwish", x)


@layer.register
def _hard_sigmoid(module: nn.Hardsigmoid, graph: Graph, x: str) -> str:
    return graph.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@layer.register
def _swish(module: nn.SiLU, graph: Graph, x: str) -> str:
    return graph.node("Mul", x, graph.node("Sigmoid", x))


@layer.register(nn.Dropout)
@layer.register(StochasticDepth)
def _nothing(module: nn.Module, graph: Graph, x: str) -> str:
    return x  # in evaluation


@layer.register
def _squeeze_excitation(module: SqueezeExcitation, graph: Graph, x: str) -> str:
    mean = graph.node("ReduceMean", x, graph.weight([2, 3]), keepdims=1)
    parts = [module.fc1, module.activation, module.fc2, module.scale_activation]
    return graph.node("Mul", x, chain(graph, mean, parts))


@layer.register(InvertedResidual)
@layer.register(MBConv)
def _inverted_residual(module: nn.Module, graph: Graph, x: str) -> str:
    out = chain(graph, x, module.block)
    return graph.node("Add", out, x) if module.use_res_connect else out
