"""Networks written to files of other formats."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from onnxruntime import InferenceSession
from torch import nn

from dynbackbones.backbones.base import Backbone, find_backbones
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.checkpoints.whole_file import whole_file
from dynbackbones.errors import UserError
from dynbackbones.export import running
from dynbackbones.export.backbones import Exported, backbone_nodes
from dynbackbones.export.graph import Graph

Model = TypeVar("Model", bound=nn.Module)

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
    path, net, graph = begun(path, overwrite, net)
    exported = _whole_backbone(net, graph)

    def compare(file: InferenceSession) -> float:
        return running.largest_difference(net, exported, file, _CHECKED_SIZES)

    return write_checked(path, graph, net.title, {"execution": exported.execution}, compare)


def write_checked(
    path: Path,
    graph: Graph,
    title: str,
    meta: dict[str, str],
    compare: Callable[[InferenceSession], float],
    tolerance: float = running.TOLERANCE,
) -> ExportReport:
    """Writes a file, whole or not at all, once ONNX Runtime computes what the network does.

    Args:
        path: of the file, see `check_output`.
        graph: what it contains.
        title: of the network.
        meta: what the file says of itself; ``"execution"`` is in the report too.
        compare: the largest difference between what the file and the network compute.
        tolerance: up to which they are the same.

    Raises:
        UserError: the network computes NaN, or nothing can be written there.
        RuntimeError: the difference is larger, which is a defect.
    """
    content = graph.model(title, meta).SerializeToString()
    file = running.session(content)
    difference = compare(file)
    if math.isnan(difference):
        raise UserError(f"{title} computes NaN: its weights hold NaN or infinity")
    if difference > tolerance:
        raise RuntimeError(
            f"ONNX Runtime computes something else than {title}: largest difference "
            f"{difference:.2g}; nothing is written"
        )
    with whole_file(path) as target:
        target.write(content)
    return _report(path, file, meta["execution"], difference)


def _report(
    path: Path, file: InferenceSession, execution: str, difference: float
) -> ExportReport:
    inputs = [*file.get_inputs(), *file.get_overridable_initializers()]
    shapes = (
        {value.name: tuple(value.shape) for value in values}
        for values in (inputs, file.get_outputs())
    )
    return ExportReport(path, *shapes, execution, difference)


def begun(
    path: str | os.PathLike,
    overwrite: bool,
    model: Model,
    check: Callable[[Model], None] = lambda model: None,
) -> tuple[Path, Model, Graph]:
    """The path of a file that may be written, what of a model goes into it, and an empty graph.

    Args:
        path, overwrite: see `check_output`.
        model: see `prepared`, and stays as it is.
        check: refuses models that cannot be exported.

    Raises:
        UserError: the file may not be written, or the model cannot be exported.
    """
    path = Path(path)
    check_output(path, overwrite)
    check(model)
    return path, prepared(model), Graph()


def prepared(model: Model) -> Model:
    """A copy of a backbone, or of what contains one, on the CPU, float32, in evaluation mode.

    Raises:
        UserError: its decisions are overridden.
    """
    for net in find_backbones(model):
        if isinstance(net, DynamicBackbone) and net.selection is not None:
            raise UserError(
                f"the decisions of {net.title} are overridden by {net.selection}: export it "
                "outside of select(...), built without selection"
            )
    return copy.deepcopy(model).cpu().float().eval()


def check_output(path: Path, overwrite: bool) -> None:
    """Makes sure that a file may be written.

    Raises:
        UserError: it may not.
    """
    if path.suffix != ".onnx":
        raise UserError(f"output {path}: the file's name must end in .onnx")
    try:
        above, folder, exists = path.parent.is_dir(), path.is_dir(), path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise UserError(f"output {path}: {error.strerror}; name another file") from error
    if not above:
        raise UserError(f"output {path}: the folder {path.parent} does not exist; make it first")
    if folder:
        raise UserError(f"output {path} is a folder; name a file in it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(
            f"output {path}: {path.parent} may not be written; name another folder, or allow it"
        )
    if exists and not overwrite:
        raise UserError(f"output {path} exists; name another file, or overwrite it")


def backbone_in(graph: Graph, net: Backbone, images: str, size: str = "") -> Exported:
    """Adds a backbone to a graph, with the input that moves its decisions.

    Args:
        graph, net, images, size: see `backbone_nodes`.
    """
    thresholds = net.thresholds() if isinstance(net, DynamicBackbone) else []
    exported = backbone_nodes(net, graph, images, "thresholds" if thresholds else "", size)
    if thresholds:
        graph.input("thresholds", (len(thresholds),), torch.stack(thresholds).float())
    return exported


def choices_out(graph: Graph, exported: Exported) -> None:
    """Declares what a backbone decided to be outputs of the file."""
    for name, choice in exported.choices.items():
        graph.output(name, choice.value, choice.shape, choice.kind)


def _whole_backbone(net: Backbone, graph: Graph) -> Exported:
    """A file's inputs, the nodes of a backbone between them, and the file's outputs."""
    exported = backbone_in(graph, net, "images")
    graph.input("images", (exported.batch, net.in_channels, "height", "width"))
    for name, value in exported.features.items():
        channels = net.feature_info[name].channels
        shape = (exported.batch, channels, f"{name}_height", f"{name}_width")
        graph.output(name, value, shape)
    choices_out(graph, exported)
    return exported


def _joined(shape: tuple[int | str, ...]) -> str:
    return ", ".join(map(str, shape))
