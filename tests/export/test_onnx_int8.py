"""Exported files in int8: they decide and skip as before, near what they computed."""

import pytest
import torch

import dynbackbones
from dynbackbones.errors import UserError
from tests.messages import naming

pytest.importorskip("onnxruntime")
import onnx

from dynbackbones.export import running, to_onnx
from dynbackbones.export.int8 import to_int8
from tests.export.test_onnx_blockdrop import decided


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A BlockDrop network's file, the one in int8, and what ranges were measured on."""
    folder = tmp_path_factory.mktemp("int8")
    to_onnx(decided(dynbackbones.build_backbone("blockdrop_resnet18")), folder / "net.onnx")
    images = torch.randn(4, 1, 3, 64, 64)
    to_int8(folder / "net.onnx", folder / "int8.onnx", images)
    return folder / "net.onnx", folder / "int8.onnx", images


def error(one, other):
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("threshold", [None, -torch.inf])
def test_a_file_is_near_the_one_in_float32(files, threshold):
    float32, int8, images = files
    given = {"images": images[0]}
    if threshold is not None:
        given["thresholds"] = torch.tensor([threshold])
    wanted, found = (running.run(running.session(file), given) for file in (float32, int8))
    assert wanted.keys() == found.keys()
    assert torch.equal(found["policy"], wanted["policy"])
    assert torch.equal(found["probabilities"], wanted["probabilities"])
    if threshold is None:
        assert 0 < found["policy"].float().mean() < 1
    errors = [error(found[name], wanted[name]) for name in ("res2", "res3", "res4", "res5")]
    assert 1e-4 < max(errors) < 0.15


def test_all_blocks_are_in_int8(files):
    float32, int8, _ = files
    graph = onnx.load(int8).graph
    blocks = [node for node in graph.node if node.op_type == "If"]
    assert len(blocks) == 8
    for node in blocks:
        for branch in (attribute.g for attribute in node.attribute):
            kinds = [inner.op_type for inner in branch.node]
            convolutions = [inner for inner in branch.node if inner.op_type == "Conv"]
            assert kinds.count("QuantizeLinear") >= len(convolutions)
            made = {inner.output[0]: inner.op_type for inner in branch.node}
            for convolution in convolutions:
                read = {made[name] for name in convolution.input}
                assert read == {"DequantizeLinear"}
    sizes = [len(onnx.load(file).SerializeToString()) for file in (float32, int8)]
    assert sizes[1] < 0.55 * sizes[0]  # of which the policy network is a third


def test_a_policy_in_int8_is_near_the_one_in_float32(files, tmp_path):
    float32, _, images = files
    to_int8(float32, tmp_path / "all.onnx", images, exact_decisions=False)
    both = float32, tmp_path / "all.onnx"
    wanted, found = (running.run(running.session(file), {"images": images[0]}) for file in both)
    difference = (found["probabilities"] - wanted["probabilities"]).abs().max()
    assert 1e-6 < float(difference) < 0.1


def test_a_static_network_needs_no_branches(tmp_path):
    torch.manual_seed(0)
    net = dynbackbones.build_backbone("cifar_resnet20").eval()
    to_onnx(net, tmp_path / "net.onnx")
    images = torch.randn(2, 1, 3, 32, 32)
    to_int8(tmp_path / "net.onnx", tmp_path / "int8.onnx", images)
    found = running.run(running.session(tmp_path / "int8.onnx"), {"images": images[0]})
    with torch.no_grad():
        for name, wanted in net(images[0]).items():
            assert 1e-4 < error(found[name], wanted) < 0.15


def test_what_does_not_go_is_refused(files, tmp_path):
    float32, int8, images = files
    with pytest.raises(UserError, match=naming("images", "empty")):
        to_int8(float32, tmp_path / "out.onnx", images[:0])
    with pytest.raises(UserError, match=naming("exists")):
        to_int8(float32, int8, images)
    value = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [3, 4, 4])
    node = onnx.helper.make_node("Identity", ["image"], ["out"])
    out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.UINT8, [3, 4, 4])
    other = onnx.helper.make_model(onnx.helper.make_graph([node], "other", [value], [out]))
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(UserError, match=naming("other.onnx", "backbone")):
        to_int8(tmp_path / "other.onnx", tmp_path / "out.onnx", images)
