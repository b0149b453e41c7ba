"""Exported files in int8, the blocks inside the branches of an ``If`` too.

ONNX Runtime's quantisation sees the nodes of a file, but not those inside branches. So each branch
becomes a file of its own for a while, which reads what the branch reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_static
from torch import Tensor

from dynbackbones.checkpoints.whole_file import whole_file
from dynbackbones.errors import UserError
from dynbackbones.export import running
from dynbackbones.export.files import check_output

# What feature maps go through.
_KINDS = ("Conv", "Relu", "Add", "MaxPool", "AveragePool")

Inputs = dict[str, np.ndarray]


def to_int8(
    file: str | os.PathLike,
    output: str | os.PathLike,
    images: Sequence[Tensor],
    *,
    exact_decisions: bool = True,
    overwrite: bool = False,
) -> None:
    """Quantises what `to_onnx` wrote of a static or a BlockDrop network, after its training.

    Weights become int8, with a scale for each channel, and the maps between them uint8, with the
    range that the images show while all blocks run and while those run that they keep; thresholds
    that keep far fewer lead out of it. Inputs and outputs stay float32.

    Args:
        file: in float32.
        output: file to write, ending in ``.onnx``.
        images: (1, C, H, W) each, normalised as in training; some dozens of the images to come.
        exact_decisions: leave what decides in float32, so that the file chooses as before. Else the
            policy network is quantised too, which is faster, and an image here or there gets
            another policy.
        overwrite: replace a file that is there.

    Raises:
        UserError: the file takes other inputs, there are no images, or nothing can be written.

    Example:
        >>> import tempfile, dynbackbones, torch
        >>> from dynbackbones.export.int8 import to_int8
        >>> net = dynbackbones.build_backbone("cifar_resnet20").eval()
        >>> folder = tempfile.mkdtemp()
        >>> report = dynbackbones.export.to_onnx(net, f"{folder}/net.onnx")
        >>> to_int8(f"{folder}/net.onnx", f"{folder}/int8.onnx", torch.rand(4, 1, 3, 32, 32))
    """
    output = Path(output)
    check_output(output, overwrite)
    if not Path(file).is_file():
        raise UserError(f"{file} does not exist; write it with dynbackbones.export.to_onnx first")
    model = onnx.load(file)
    inputs = list(_inputs_of(model, file, images))
    with TemporaryDirectory() as folder:
        _quantize_branches(model, inputs, Path(folder))
        deciding = _deciding(model) if exact_decisions else []
        if deciding:
            _read_images_apart(model, deciding)
        model = _quantized(model, inputs, Path(folder), deciding)
    with whole_file(output) as target:
        target.write(model.SerializeToString())


def _inputs_of(
    model: ModelProto, file: str | os.PathLike, images: Sequence[Tensor]
) -> Iterator[Inputs]:
    """What a file is given while ranges are measured: each image, by itself and to run all."""
    weights = {weight.name: list(weight.dims) for weight in model.graph.initializer}
    others = {value.name for value in model.graph.input} - {"images", *weights}
    if others or "images" not in {value.name for value in model.graph.input}:
        raise UserError(f"{os.fspath(file)} is not what dynbackbones writes of a backbone")
    if not len(images):
        raise UserError("images are empty: ranges are measured on some")
    for image in images:
        given = {"images": np.ascontiguousarray(image.float().numpy())}
        yield given
        if "thresholds" in weights:
            yield {**given, "thresholds": np.full(weights["thresholds"], -np.inf, np.float32)}


def _quantize_branches(model: ModelProto, inputs: Sequence[Inputs], folder: Path) -> None:
    """Quantises in place the branches with convolutions that read one map."""
    branches = {}
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "If" else ():
            read = _read_from_outside(attribute.g)
            kinds = {inner.op_type for inner in attribute.g.node}
            if len(read) == 1 and "Conv" in kinds and kinds <= {*_KINDS, "Identity"}:
                branches[f"{node.name}_{attribute.name}_"] = attribute.g, read[0]
    if not branches:
        return
    maps = _values(model, inputs, {name for _, name in branches.values()})
    for prefix, (branch, name) in branches.items():
        shape = [1, maps[0][name].shape[1], None, None]
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        alone = helper.make_graph(
            branch.node, "branch", [value], branch.output, branch.initializer
        )
        part = helper.make_model(
            alone, opset_imports=model.opset_import, ir_version=model.ir_version
        )
        found = _quantized(part, [{name: one[name]} for one in maps], folder)
        _put_back(branch, found.graph, prefix)


def _read_from_outside(branch: GraphProto) -> list[str]:
    made = {output for node in branch.node for output in node.output}
    made |= {weight.name for weight in branch.initializer}
    read = dict.fromkeys(name for node in branch.node for name in node.input if name)
    return [name for name in read if name not in made]


def _values(
    model: ModelProto, inputs: Sequence[Inputs], names: set[str]
) -> list[Mapping[str, np.ndarray]]:
    """The values of a file's maps for each of its inputs."""
    shown = ModelProto()
    shown.CopyFrom(model)
    known = {output.name for output in model.graph.output}
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in sorted(names - known)
    )
    file = running.session(shown.SerializeToString())
    order = sorted(names)
    return [dict(zip(order, file.run(order, one), strict=True)) for one in inputs]


def _deciding(model: ModelProto) -> list[str]:
    """Names of the nodes that what runs depends on: rounded, they would decide otherwise."""
    wanted = {node.input[0] for node in model.graph.node if node.op_type == "If"}
    found = []
    for node in reversed(model.graph.node):  # in the order in which they run
        if wanted & set(node.output):
            wanted |= set(node.input)
            found.append(node.name)
    return found


def _read_images_apart(model: ModelProto, deciding: Sequence[str]) -> None:
    """Gives all other nodes a copy of the images: rounded, they would be so for all readers."""
    for node in model.graph.node:
        if node.name not in deciding:
            node.input[:] = ["seen" if name == "images" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Identity", ["images"], ["seen"], "seen"))


def _quantized(
    model: ModelProto, inputs: Sequence[Inputs], folder: Path, excluded: Sequence[str] = ()
) -> ModelProto:
    plain, result = folder / "plain.onnx", folder / "int8.onnx"
    onnx.save(model, plain)
    quantize_static(
        plain,
        result,
        _Reader(inputs),
        op_types_to_quantize=list(_KINDS),
        nodes_to_exclude=list(excluded),
        per_channel=True,
        # Sums of pairs of 8 by 8 bits overflow on processors without VNNI.
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return onnx.load(result)


class _Reader:
    """Gives ONNX Runtime one input after the other, then None."""

    def __init__(self, inputs: Sequence[Inputs]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> Inputs | None:
        return next(self._inputs, None)


def _put_back(branch: GraphProto, found: GraphProto, prefix: str) -> None:
    """Gives a branch other nodes, under names that no other branch has."""
    kept = {output.name for output in branch.output}
    made = [output for node in found.node for output in node.output]
    made += [weight.name for weight in found.initializer]
    names = {name: prefix + name for name in made if name not in kept}
    for node in found.node:
        node.name = prefix + node.name
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for weight in found.initializer:
        weight.name = names[weight.name]
    del branch.node[:], branch.initializer[:], branch.value_info[:]
    branch.node.extend(found.node)
    branch.initializer.extend(found.initializer)
