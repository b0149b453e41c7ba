import pytest
import torch
import torchvision
from torchvision.models._utils import IntermediateLayerGetter

import dynbackbones

LAYERS = {f"layer{i}": f"res{i + 1}" for i in range(1, 5)}


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_equals_torchvision_with_the_same_weights(depth):
    reference = getattr(torchvision.models, f"resnet{depth}")(weights=None).eval()
    net = dynbackbones.build_backbone(f"resnet{depth}").eval()
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    net.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        expected = IntermediateLayerGetter(reference, LAYERS)(images)
        features = net(images)
    assert list(features) == list(expected)
    for name, feature in features.items():
        torch.testing.assert_close(feature, expected[name])
        info = net.feature_info[name]
        assert feature.shape[1] == info.channels
        assert feature.shape[2] == -(-65 // info.stride)


@pytest.mark.parametrize(("output_stride", "dilate"), [(16, (0, 0, 1)), (8, (0, 1, 1))])
def test_dilated_equals_torchvision(output_stride, dilate):
    reference = torchvision.models.resnet50(
        weights=None, replace_stride_with_dilation=[bool(d) for d in dilate]
    ).eval()
    net = dynbackbones.build_backbone("resnet50", output_stride=output_stride).eval()
    net.load_state_dict(
        {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    )
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = IntermediateLayerGetter(reference, LAYERS)(images)["res5"]
        torch.testing.assert_close(net(images)["res5"], expected)
    assert net.feature_info["res5"].stride == output_stride


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((224, 224), {}, 4.09e9),  # torchvision's documentation, without the classifier's 2 M
        ((800, 1344), {}, 87.6e9),
        ((513, 513), {"output_stride": 16}, 34.1e9),  # SAR, table IX
    ],
)
def test_macs(size, options, expected):
    net = dynbackbones.build_backbone("resnet50", **options)
    assert net.macs(*size) == pytest.approx(expected, rel=0.005)


def test_decisions_hold_the_cost_of_each_image():
    net = dynbackbones.build_backbone("resnet18").eval()
    net(torch.randn(2, 3, 64, 64), image_sizes=[(64, 64), (33, 50)])
    assert net.decisions.macs.tolist() == [net.macs(64, 64), net.macs(33, 50)]
    assert list(net.decisions.figures()) == ["gmacs"]


def test_a_deep_stem_equals_resnetv1cs():
    """mmseg's, dilated as its configs have it."""
    ResNetV1c = pytest.importorskip("mmseg.models.backbones").ResNetV1c
    torch.manual_seed(0)
    dilated = {"dilations": (1, 1, 2, 4), "strides": (1, 2, 1, 1), "contract_dilation": True}
    reference = ResNetV1c(depth=50, **dilated)
    reference.eval()
    net = dynbackbones.build_backbone("resnet50", deep_stem=True, output_stride=8).eval()
    net.load_state_dict(reference.state_dict())
    around = dynbackbones.SARResNet(50, layout="resnet", deep_stem=True, output_stride=8).eval()
    dynbackbones.checkpoints.load_state(around, reference.state_dict(), "V1c")
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected, found = reference(images), list(net(images).values())
        assert all(torch.equal(a, b) for a, b in zip(found, around(images).values(), strict=True))
    for feature, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(feature, wanted)
    count = sum(p.numel() for p in net.stem.parameters() if p.dim() == 4)
    usual = dynbackbones.build_backbone("resnet50", output_stride=8)
    stem = net.macs(64, 64) - usual.macs(64, 64)
    assert stem == (count - 64 * 3 * 49) * 32 * 32


def test_a_deep_stem_freezes_like_another():
    net = dynbackbones.ResNet(18, deep_stem=True, freeze_at=1)
    assert not any(p.requires_grad for p in net.stem.parameters())
    assert all(p.requires_grad for p in net.layer1.parameters())
