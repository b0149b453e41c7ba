"""Glance and Focus in ONNX: the file stops where the network does, and computes no more."""

import pytest
import torch

from dynbackbones.errors import UserError
from tests.classifiers.made import focused, images, leave_apart
from tests.messages import naming

pytest.importorskip("onnxruntime")
import onnx

from dynbackbones.export import glance_focus_to_onnx, running
from dynbackbones.export.glance_focus import largest_difference


def exported(net, tmp_path):
    report = glance_focus_to_onnx(net, tmp_path / "net.onnx")
    assert report.execution == "stops when sure" and report.difference < 1e-4
    return running.session(report.path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"head": "cascade", "glance_mode": "bicubic", "proposal": "flatten"},
        {"name": "glance_focus_mobilenet_v3_small", "patch": 64, "steps": 3},
        {"name": "glance_focus_efficientnet_b0", "patch": 64, "steps": 3},
        {"name": "glance_focus_resnet18", "patch": 64, "steps": 2},
    ],
    ids=lambda options: options.get("name", "cifar") + "".join(options.get("head", "")),
)
@torch.no_grad()
def test_each_image_ends_where_the_networks_own_walk_does(options, tmp_path):
    net = focused(**options)
    scenes = images(6, (2 * net.patch, 3 * net.patch))
    leave_apart(net, scenes)
    file, logp = exported(net, tmp_path), net(scenes)
    steps, corners = net.decisions.steps, net.decisions.corners
    assert len(steps.unique()) > 1
    for index, image in enumerate(scenes):
        found = running.run(file, {"images": image[None]})
        assert found["steps"].tolist() == [steps[index]]
        wanted = corners[index, : steps[index] - 1]
        # Where a place lies between two pixels rounding decides.
        assert found["corners"].shape == wanted.shape
        assert (found["corners"] - wanted).abs().max() <= 1 if len(wanted) else True
        if torch.equal(found["corners"], wanted):
            torch.testing.assert_close(found["logp"][0], logp[index], atol=2e-3, rtol=1e-3)


def test_thresholds_are_an_input_and_crops_are_in_a_loop(tmp_path):
    net = focused()
    file, image = exported(net, tmp_path), images(1, (64, 64))
    for exits, steps in (([0.0] * 4, 1), ([2.0, 0.0, 0.0, 0.0], 2), ([2.0, 2.0, 2.0, 0.0], 4)):
        found = running.run(file, {"images": image, "exits": torch.tensor(exits)})
        assert found["steps"].tolist() == [steps] and len(found["corners"]) == steps - 1
    graph = onnx.load(tmp_path / "net.onnx").graph
    (loop,) = (node for node in graph.node if node.op_type == "Loop")
    body = loop.attribute[0].g
    convolutions = [
        sum(node.op_type == "Conv" for node in part.node) for part in (graph, body)
    ]
    # An encoder each, and the proposal's in the loop.
    assert convolutions[1] == convolutions[0] + 1 > 5


def test_a_confidence_that_is_no_number_takes_all_steps(tmp_path):
    net = focused(exits=[0.1, 0.1, 0.1])
    found = running.run(exported(net, tmp_path), {"images": torch.full((1, 3, 64, 64), torch.nan)})
    with torch.no_grad():
        logp = net(torch.full((1, 3, 64, 64), torch.nan))
    assert found["steps"].tolist() == net.decisions.steps.tolist() == [4]
    assert found["logp"].isnan().all() and logp.isnan().all()


def test_a_file_that_looks_elsewhere_is_noticed(tmp_path):
    net = focused()
    file = exported(net, tmp_path)
    other = focused()
    torch.nn.init.normal_(other.proposal.actor.weight, std=9)
    with pytest.raises(RuntimeError, match=naming("looks at")):
        largest_difference(other, file)
    with torch.no_grad():
        net.head.fc.weight.mul_(1.01)
    assert largest_difference(net, file) > 1e-3


def test_what_cannot_be_exported_is_named(tmp_path):
    net = focused()
    with net.select("all"), pytest.raises(UserError, match=naming("select", "overridden")):
        glance_focus_to_onnx(net, tmp_path / "net.onnx")
    net = focused("glance_focus_blockdrop_cifar_resnet20", steps=2)
    with pytest.raises(UserError, match=naming("BlockDrop-CIFAR-ResNet-20")):
        glance_focus_to_onnx(net, tmp_path / "net.onnx")
    net = focused("glance_focus_regnet_y_400mf", patch=64, steps=2)
    with pytest.raises(UserError, match=naming("regnet_y_400mf", "MobileNetV3")):
        glance_focus_to_onnx(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
