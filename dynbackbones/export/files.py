"""Networks written to files of other formats."""

from __future__ import annotations

import copy
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.errors import UserError
from dynbackbones.export import running
from dynbackbones.export.backbones import Exported, backbone_nodes
from dynbackbones.export.graph import Graph

# The last is large enough for a policy network to see it reduced.
_CHECKED_SIZES = ((96, 128), (75, 53), (261, 240))


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: of the file.
        inputs, outputs: by name, their shapes; a name in a shape stands for any length.
        execution: how the file computes what a network chooses, in a few words.
        difference: of its outputs from the network's in PyTorch, relative to the largest value.
    """

    path: Path
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    execution: str
    difference: float

    def __str__(self) -> str:
        lines = [f"wrote {self.path}: {self.execution}"]
        for kind, values in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"  {kind:<6} {name} ({_joined(v)})" for name, v in values.items()]
        lines.append(f"checked with ONNX Runtime: largest difference {self.difference:.2g}")
        return "\n".join(lines)


def to_onnx(net: Backbone, path: str | os.PathLike, *, overwrite: bool = False) -> ExportReport:
    """Writes a backbone as an ONNX file that computes what it chooses, and no more.

    The file takes ``images``, float32 (N, C, H, W) normalised as in training, of any height and
    width, and returns the features by their names. A BlockDrop network's file has its policy
    network in it and one ``If`` for each block; batches are of one image. It also returns what was
    chosen, and takes ``thresholds``, by default what `calibrate` has set. Nothing is written that
    ONNX Runtime computes otherwise than the network.

    Args:
        net: trained; it stays as it is.
        path: of the file, ending in ``.onnx``.
        overwrite: replace a file that is there.

    Raises:
        UserError: the network cannot be exported, or the file may not be written.
        RuntimeError: ONNX Runtime computes something else, which is a defect.
    """
    path = Path(path)
    check_output(path, overwrite)
    net = prepared(net)
    graph = Graph()
    exported = _whole_backbone(net, graph)
    content = graph.model(net.title, {"execution": exported.execution}).SerializeToString()
    file = running.session(content)
    difference = running.largest_difference(net, exported, file, _CHECKED_SIZES)
    if math.isnan(difference):
        raise UserError(f"{net.title} computes NaN: its weights hold NaN or infinity")
    if difference > running.TOLERANCE:
        raise RuntimeError(
            f"ONNX Runtime computes other features than {net.title}: relative difference "
            f"{difference:.2g}; nothing is written"
        )
    path.write_bytes(content)
    inputs = {
        value.name: tuple(value.shape)
        for value in [*file.get_inputs(), *file.get_overridable_initializers()]
    }
    outputs = {value.name: tuple(value.shape) for value in file.get_outputs()}
    return ExportReport(path, inputs, outputs, exported.execution, difference)


def prepared(net: Backbone) -> Backbone:
    """A copy of a network that can be exported: on the CPU, float32, in evaluation mode.

    Raises:
        UserError: its decisions are overridden.
    """
    if isinstance(net, DynamicBackbone) and net.selection is not None:
        raise UserError(
            f"the decisions of {net.title} are overridden by {net.selection}: export it outside of "
            "select(...), built without selection"
        )
    return copy.deepcopy(net).cpu().float().eval()


def check_output(path: Path, overwrite: bool) -> None:
    """Makes sure that a file may be written.

    Raises:
        UserError: it may not.
    """
    if path.suffix != ".onnx":
        raise UserError(f"output {path}: the file's name must end in .onnx")
    if not path.parent.is_dir():
        raise UserError(f"output {path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise UserError(f"output {path} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise UserError(f"output {path} exists; name another file, or overwrite it")


def _whole_backbone(net: Backbone, graph: Graph) -> Exported:
    """A file's inputs, the nodes of a backbone between them, and the file's outputs."""
    thresholds = net.thresholds() if isinstance(net, DynamicBackbone) else []
    names = ("images", "thresholds" if thresholds else "")
    exported = backbone_nodes(net, graph, *names)
    graph.input("images", (exported.batch, net.in_channels, "height", "width"))
    if thresholds:
        graph.input("thresholds", (len(thresholds),), torch.stack(thresholds).float())
    for name, value in exported.features.items():
        channels = net.feature_info[name].channels
        shape = (exported.batch, channels, f"{name}_height", f"{name}_width")
        graph.output(name, value, shape)
    for name, choice in exported.choices.items():
        graph.output(name, choice.value, choice.shape, choice.kind)
    return exported


def _joined(shape: tuple[int | str, ...]) -> str:
    return ", ".join(map(str, shape))
