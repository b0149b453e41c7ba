"""SAR networks in ONNX: few regions alone or all of them masked, at any size, in any batch."""

import numpy as np
import pytest
import torch

import dynbackbones

pytest.importorskip("onnxruntime")
import onnx
from onnx import numpy_helper

from dynbackbones.export import running, to_onnx
from dynbackbones.export.backbones import backbone_nodes
from dynbackbones.export.graph import Graph
from tests.export_speed import keep_regions

NETWORKS = {
    "paper": lambda: dynbackbones.SARResNet(18),
    "paper of bottlenecks": lambda: dynbackbones.SARResNet(50, groups=4, alpha=1, beta=0.5),
    "one group, coarse base": lambda: dynbackbones.SARResNet(34, groups=1, base_scale=4),
    "dilated": lambda: dynbackbones.SARResNet(18, output_stride=8),
    "dilated base": lambda: dynbackbones.SARResNet(18, base="dilated"),
    "grid": lambda: dynbackbones.SARResNet(18, grid_size=3),
    "resnet": lambda: dynbackbones.SARResNet(18, layout="resnet", base_scale=4, deep_stem=True),
    "one mask a stage": lambda: dynbackbones.SARResNet(34, regions_per="stage"),
    "more groups than masks": lambda: dynbackbones.build_backbone("sar_resnext50_32x4d"),
    "inverted residuals": lambda: dynbackbones.SARMobileNetV2(alpha=2),
    "base alone": lambda: dynbackbones.SARCifarResNet(20, branches="base"),
    "refinement alone": lambda: dynbackbones.SARCifarResNet(20, branches="refinement"),
}


def decided(net):
    """A network whose selectors tell places apart, and whose added base branch does something."""
    torch.manual_seed(0)
    for name, parameter in net.named_parameters():
        if ".fc.weight" in name and "selectors" in name:
            torch.nn.init.normal_(parameter, std=3.0)
        elif name.endswith(("fusion.scale", "fc.bias")):
            torch.nn.init.normal_(parameter)
    return net.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_file_refines_what_the_network_does(kind, tmp_path):
    net = decided(NETWORKS[kind]())
    to_onnx(net, tmp_path / "net.onnx")
    file = running.session(tmp_path / "net.onnx")
    rates = []
    for count, size in ((1, (64, 96)), (2, (71, 53)), (1, (9, 130))):
        inputs = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(count))
        found = running.run(file, {"images": inputs})
        for name, wanted in net(inputs).items():
            bound = 1e-4 * float(wanted.abs().max())
            torch.testing.assert_close(found[name], wanted, rtol=0, atol=bound)
        masks = net.decisions.choices() or {}
        for name, mask in masks.items():
            assert torch.equal(found[f"masks_{name}"], mask)
        rates += [float(mask.float().mean()) for mask in masks.values()]
    assert kind == "base alone" or 0 < sum(rates) / len(rates) < 1


@torch.no_grad()
@pytest.mark.parametrize(
    "kind", ["paper", "paper of bottlenecks", "dilated", "resnet", "one mask a stage"]
)
def test_few_regions_are_computed_alone(kind, tmp_path):
    """In every stage, whose masked branch is spoilt: nothing of it may be computed."""
    net, images = decided(NETWORKS[kind]()), torch.randn(2, 3, 90, 75)
    keep_regions(net, 0.3, images)
    to_onnx(net, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    choices = [node for node in model.graph.node if node.op_type == "If"]
    assert len(choices) == 3
    for node in choices:
        (masked,) = (a.g for a in node.attribute if a.name == "else_branch")
        for weight in masked.initializer:
            if len(weight.dims) == 4:
                spoilt = np.full(weight.dims, np.nan, np.float32)
                weight.CopyFrom(numpy_helper.from_array(spoilt, weight.name))
    found = running.run(running.session(model.SerializeToString()), {"images": images})
    wanted = net(images)
    assert 0.1 < float(net.decisions.rate.mean()) < 0.4
    assert all(mask.float().mean() <= 0.5 for mask in net.decisions.choices().values())
    for name, value in wanted.items():
        bound = 1e-4 * float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=0, atol=bound)


@torch.no_grad()
def test_the_thresholds_of_the_file_move_its_rate(tmp_path):
    net = decided(dynbackbones.SARResNet(18))
    to_onnx(net, tmp_path / "net.onnx")
    inputs = torch.randn(1, 3, 64, 64)
    for threshold in net.thresholds():
        threshold.normal_(std=3.0)
    given = torch.stack(net.thresholds())
    found = running.run(
        running.session(tmp_path / "net.onnx"), {"images": inputs, "thresholds": given}
    )
    wanted = net(inputs)["res5"]
    torch.testing.assert_close(found["res5"], wanted, rtol=0, atol=1e-4 * float(wanted.max()))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["paper", "one group, coarse base", "grid", "resnet"])
@pytest.mark.parametrize("size", [(64, 64), (75, 50), (33, 96)])
def test_padding_counts_nowhere(kind, size):
    """As in a detector, whose images are padded to whole strides."""
    net, graph = decided(NETWORKS[kind]()), Graph()
    exported = backbone_nodes(net, graph, "images", "thresholds", "size")
    graph.input("images", (1, 3, None, None))
    graph.input("size", (2,), kind="int64")
    graph.input("thresholds", (len(net.thresholds()),), torch.stack(net.thresholds()))
    for name, value in exported.features.items():
        graph.output(name, value, (1, None, None, None))
    images = torch.zeros(1, 3, 96, 96)
    images[..., : size[0], : size[1]].normal_()
    file = running.session(graph.model("padded").SerializeToString())
    found = running.run(file, {"images": images, "size": torch.tensor(size)})
    for name, wanted in net(images, image_sizes=[size]).items():
        bound = 1e-4 * float(wanted.abs().max())
        torch.testing.assert_close(found[name], wanted, rtol=0, atol=bound)
