"""MobileNetV2, which is torchvision's too."""

import pytest
import torch
import torchvision

import dynbackbones
from tests.messages import naming


@pytest.mark.parametrize("width", [1.0, 0.75, 0.35, 1.4])
def test_torchvisions_weights_load_and_give_the_same(width):
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(weights=None, width_mult=width).eval()
    ours = dynbackbones.build_backbone("mobilenet_v2", width=width, last_conv=True).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("classifier.")}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    images = torch.randn(1, 3, 65, 47)
    with torch.no_grad():
        features = ours(images)
        x, found = images, []
        for layer in theirs.features:
            x = layer(x)
            found.append(x)
    for name, index in {"res2": 3, "res3": 6, "res4": 13, "res5": 17, "res6": 18}.items():
        assert torch.equal(features[name], found[index])
        assert ours.feature_info[name].channels == found[index].shape[1]
        assert ours.feature_info[name].module == f"features.{index}"


@pytest.mark.parametrize(
    ("width", "giga", "parameters"), [(1.0, 0.3008, 3_504_872), (0.75, 0.2091, 2_636_424)]
)
def test_costs(width, giga, parameters):
    net = dynbackbones.MobileNetV2(width=width, last_conv=True)
    head = 1280 * 1000
    assert (net.macs(224, 224) + head) / 1e9 == pytest.approx(giga, abs=0.00005)
    assert sum(p.numel() for p in net.parameters()) + head + 1000 == parameters


def test_macs_are_what_the_convolutions_compute():
    net, counted = dynbackbones.MobileNetV2(), []
    for conv in net.modules():
        if isinstance(conv, torch.nn.Conv2d):
            conv.register_forward_hook(
                lambda m, _, out: counted.append(m.weight.numel() * out.shape[2] * out.shape[3])
            )
    net(torch.randn(2, 3, 71, 50))
    assert net.macs(71, 50) == sum(counted)
    assert net.decisions.macs.tolist() == [sum(counted)] * 2


@pytest.mark.parametrize("output_stride", [16, 8])
def test_dilation_keeps_the_resolution_and_the_weights(output_stride):
    net = dynbackbones.MobileNetV2(output_stride=output_stride).eval()
    net.load_state_dict(dynbackbones.MobileNetV2().state_dict())
    features = net(torch.randn(1, 3, 65, 97))
    for name, info in net.feature_info.items():
        assert features[name].shape[2:] == (-(-65 // info.stride), -(-97 // info.stride))
    assert net.feature_info["res5"].stride == output_stride
    dilations = [block.residual_layers()[1][0].dilation[0] for block in net.features[14:18]]
    assert dilations == {16: [1, 2, 2, 2], 8: [2, 4, 4, 4]}[output_stride]


def test_parts_freeze_in_order():
    net = dynbackbones.MobileNetV2(freeze_at=2).train()
    frozen = [not any(p.requires_grad for p in layer.parameters()) for layer in net.features]
    assert frozen == [True] * 4 + [False] * 14
    assert not net.features[3].training and net.features[4].training
    covered = [module for part in net.parts() for module in part]
    assert covered == list(net.features)


@pytest.mark.parametrize(
    ("options", "words"), [({"width": 0}, ("width", 0)), ({"output_stride": 4}, ("4", "32"))]
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=naming(*words)):
        dynbackbones.MobileNetV2(**options)
