"""What is written, and what is refused before anything is."""

import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones.errors import UserError
from tests.messages import naming

pytest.importorskip("onnxruntime")

from dynbackbones.export import running, to_onnx


@pytest.fixture
def net():
    torch.manual_seed(0)
    return dynbackbones.build_backbone("resnet18")


def test_a_static_network_in_any_batch(net, tmp_path):
    report = to_onnx(net, tmp_path / "net.onnx")
    assert report.inputs == {"images": ("batch", 3, "height", "width")}
    assert list(report.outputs) == ["res2", "res3", "res4", "res5"]
    assert report.execution == "static" and report.difference < 1e-5
    assert net.training
    images = torch.randn(3, 3, 45, 70)
    found = running.run(running.session(report.path), {"images": images})
    with torch.no_grad():
        wanted = net.eval()(images)
    torch.testing.assert_close(found["res5"], wanted["res5"], rtol=1e-4, atol=1e-4)


def test_a_network_that_was_optimized(net, tmp_path):
    fast = dynbackbones.optimize_for_inference(net.eval())
    report = to_onnx(fast, tmp_path / "net.onnx")
    images = torch.randn(1, 3, 45, 70)
    found = running.run(running.session(report.path), {"images": images})
    with torch.no_grad():
        wanted = net(images)["res5"]
    torch.testing.assert_close(found["res5"], wanted, rtol=1e-4, atol=1e-4)


def test_a_report_says_what_the_file_takes_and_gives(tmp_path):
    text = str(to_onnx(dynbackbones.BlockDropCifarResNet(20), tmp_path / "net.onnx"))
    assert f"wrote {tmp_path / 'net.onnx'}: skips blocks\n" in text
    assert "input  images (1, 3, height, width)\n" in text
    assert "input  thresholds (1)\n" in text
    assert "output policy (1, 9)\n" in text


def test_a_file_is_not_replaced_unless_asked(net, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("mine")
    with pytest.raises(UserError, match=naming(path, "exists")):
        to_onnx(net, path)
    assert path.read_text() == "mine"
    to_onnx(net, path, overwrite=True)
    running.session(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("net.pth", [".onnx"]), ("no/net.onnx", ["no", "does not exist"]), ("f.onnx", ["folder"])],
)
def test_outputs_that_cannot_be(net, tmp_path, name, words):
    (tmp_path / "f.onnx").mkdir()
    with pytest.raises(UserError, match=naming(tmp_path / name, *words)):
        to_onnx(net, tmp_path / name)


class OwnBackbone(dynbackbones.Backbone):
    def __init__(self):
        super().__init__(3)

    def parts(self):
        return []

    def macs(self, height, width):
        return 0.0


def nan_weights(net):
    nn.init.constant_(net.conv1.weight, torch.nan)
    return net


def unknown_layer(net):
    net.layer2[0].downsample.append(nn.Softshrink())
    return net


def circular(net):
    net.layer1[0].conv1.padding_mode = "circular"
    return net


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda net: OwnBackbone(), ["OwnBackbone", "ResNet, SARResNet, BlockDropResNet"]),
        (nan_weights, ["ResNet-18", "NaN"]),
        (unknown_layer, ["Softshrink", "layer.register"]),
        (circular, ["padding_mode='circular'"]),
        (
            lambda net: dynbackbones.BlockDropResNet(18, selection="first"),
            ["BlockDrop-ResNet-18", "overridden", "select(...)"],
        ),
    ],
    ids=["backbone", "NaN", "layer", "padding", "selection"],
)
def test_networks_that_cannot_be(net, change, words, tmp_path):
    with pytest.raises(UserError, match=naming(*words)):
        to_onnx(change(net), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_written(net, tmp_path):
    class Doubled(type(net)):
        def forward(self, images, image_sizes=None):
            return {name: 2 * value for name, value in super().forward(images).items()}

    net.__class__ = Doubled
    with pytest.raises(RuntimeError, match=naming("something else", "ResNet-18")):
        to_onnx(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_chooses_something_else_is_not_written(tmp_path):
    class Stubborn(dynbackbones.BlockDropResNet):
        def _probabilities(self, images, sizes):
            return 1 - super()._probabilities(images, sizes)

    with pytest.raises(RuntimeError, match="8 other choices"):
        to_onnx(Stubborn(18), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
