"""What stands before the heads of an exported model of OpenMMLab: preprocessor and backbone."""

from __future__ import annotations

from torch import nn

from dynbackbones.export import images
from dynbackbones.export.backbones import Exported
from dynbackbones.export.files import backbone_in
from dynbackbones.export.graph import Graph


def backbone_of_pixels(graph: Graph, model: nn.Module) -> Exported:
    """Adds the input ``images``, a model's data preprocessor and its backbone to a graph.

    Args:
        graph: the graph.
        model: with a ``data_preprocessor`` and a backbone of this package.
    """
    net = model.backbone
    exported = backbone_in(graph, net, preprocessed(graph, model.data_preprocessor, net))
    graph.input("images", (exported.batch, net.in_channels, "height", "width"))
    return exported


def preprocessed(graph: Graph, before: nn.Module, net: nn.Module) -> str:
    """What a data preprocessor makes of the input ``images`` for a network."""
    x = "images"
    # The original mmseg, the maintained one and mmpretrain call it differently.
    names = ("_channel_conversion", "channel_conversion", "to_rgb")
    if any(getattr(before, name, False) for name in names) and net.in_channels == 3:
        x = graph.node("Gather", x, graph.weight([2, 1, 0]), axis=1)
    if before._enable_normalize:
        mean, std = (values.flatten().tolist() for values in (before.mean, before.std))
        x = images.normalize(graph, x, mean, std)
    return x
