import pytest
import torch
from fvcore.nn import FlopCountAnalysis

import dynbackbones
from dynbackbones.layers.cifar import CifarBlock
from tests.messages import naming


@pytest.mark.parametrize(("depth", "operations"), [(32, 1.38e8), (110, 5.06e8)])
def test_cost_of_the_paper(depth, operations):
    # BlockDrop, section 4 (two operations for each multiply-accumulate).
    net = dynbackbones.build_backbone(f"cifar_resnet{depth}")
    assert 2 * net.macs(32, 32) == pytest.approx(operations, rel=0.02)


@pytest.mark.parametrize(
    ("depth", "width", "macs"), [(56, 1, 126e6), (110, 1, 254e6), (32, 2, 271e6)]
)
def test_macs_of_sars_baselines(depth, width, macs):
    # Table III. The rest is the shortcuts, which there are 1x1 convolutions where channels change.
    net = dynbackbones.CifarResNet(depth, width=width)
    channels = [16, *(info.channels for info in net.feature_info.values())]
    pairs = zip(channels, channels[1:], (32, 16, 8), strict=False)
    shortcuts = sum(a * b * size**2 for a, b, size in pairs if a != b)
    head = channels[-1] * 100
    assert net.macs(32, 32) + shortcuts + head == pytest.approx(macs, rel=0.004)


@pytest.mark.parametrize(
    ("name", "giga", "printed", "parameters"),
    [
        ("cifar_wide_resnet28_10", 5.243, 5.24, 36_539_124),
        ("cifar_resnext29_8x32", 2.057, 2.06, 13_009_828),
    ],
)
def test_costs_of_other_families(name, giga, printed, parameters):
    # SAR's table IV, 100 classes.
    net = dynbackbones.build_backbone(name).eval()
    head = net.feature_info["res4"].channels * 100
    found = (net.macs(32, 32) + head) / 1e9
    assert found == pytest.approx(giga, abs=0.0005) and found == pytest.approx(printed, rel=0.005)
    assert sum(p.numel() for p in net.parameters()) + head + 100 == parameters


@pytest.mark.parametrize(
    ("depth", "options", "title", "channels"),
    [
        (28, {"width": 2}, "CIFAR-WRN-28-2", [32, 64, 128]),
        (16, {"width": 4}, "CIFAR-WRN-16-4", [64, 128, 256]),
        (29, {"width": 0.25}, "CIFAR-ResNet-29", [64, 128, 256]),
        (
            29,
            {"width": 0.25, "cardinality": 8, "width_per_group": 32},
            "CIFAR-ResNeXt-29 (8x32d)",
            [64, 128, 256],
        ),
    ],
)
def test_macs_and_features_of_other_families(depth, options, title, channels):
    net = dynbackbones.CifarResNet(depth, **options).eval()
    assert net.title == title
    assert [info.channels for info in net.feature_info.values()] == channels
    images = torch.randn(1, 3, 33, 30)
    features = net(images)
    assert [tuple(f.shape[1:]) for f in features.values()] == [
        (channels[0], 33, 30), (channels[1], 17, 15), (channels[2], 9, 8),
    ]  # fmt: skip
    analysis = FlopCountAnalysis(net, images)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert analysis.by_operator()["conv"] == net.macs(33, 30)


@pytest.mark.parametrize(
    ("depth", "width", "millions"),
    [(40, 2, 2.2), (40, 4, 8.9), (22, 8, 17.2), (16, 8, 11.0), (16, 10, 17.1), (28, 10, 36.5)],
)
def test_parameters_are_those_of_zagoruyko_and_komodakis(depth, width, millions):
    # Their tables 3 and 4: CIFAR-10.
    net = dynbackbones.build_backbone(f"cifar_wide_resnet{depth}", width=width)
    head = net.feature_info["res4"].channels * 10 + 10
    found = sum(p.numel() for p in net.parameters()) + head
    assert found / 1e6 == pytest.approx(millions, abs=0.06)


def test_cardinality_is_of_bottlenecks():
    with pytest.raises(ValueError, match=naming("29", cardinality=8)):
        dynbackbones.CifarResNet(20, cardinality=8)


def test_features():
    net = dynbackbones.build_backbone("cifar_resnet20", freeze_at=2).eval()
    features = net(torch.randn(2, 3, 33, 30))
    shapes = {name: tuple(feature.shape) for name, feature in features.items()}
    assert shapes == {"res2": (2, 16, 33, 30), "res3": (2, 32, 17, 15), "res4": (2, 64, 9, 8)}
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert {name.split(".")[0] for name in frozen} == {"conv1", "bn1", "layer1"}


def test_width_leaves_the_stem_alone():
    net = dynbackbones.CifarResNet(20, width=1.5)
    assert [info.channels for info in net.feature_info.values()] == [24, 48, 96]
    assert net.conv1.out_channels == 16
    assert tuple(net(torch.randn(2, 3, 32, 32))["res4"].shape) == (2, 96, 8, 8)
    with pytest.raises(ValueError, match=naming("positive", width=0)):
        dynbackbones.CifarResNet(20, width=0)


def test_parameters_are_those_of_he_et_al():
    net = dynbackbones.build_backbone("cifar_resnet20")
    head = 64 * 10 + 10
    assert sum(p.numel() for p in net.parameters()) + head == pytest.approx(0.27e6, rel=0.01)


def test_shortcut_averages_and_adds_zeros():
    block = CifarBlock(2, 4, stride=2)
    assert all("downsample" not in name for name in block.state_dict())
    x = torch.arange(18.0).view(1, 2, 3, 3)
    shortcut = block.shortcut(x)
    assert shortcut.shape == (1, 4, 2, 2)
    assert shortcut[0, 0].tolist() == [[2.0, 3.5], [6.5, 8.0]]
    assert not shortcut[:, 2:].any()
    assert block.shortcut_macs(3, 3) == 0


@pytest.mark.parametrize("name", ["cifar_resnet32", "blockdrop_cifar_resnet32"])
def test_unknown_depth(name):
    with pytest.raises(ValueError, match=naming("20, 32, 56, 110", depth=33)):
        type(dynbackbones.build_backbone(name))(33)
