"""ResNets in more groups or wider, which are torchvision's too."""

import pytest
import torch
import torchvision

import dynbackbones
from tests.messages import naming

TORCHVISIONS = {
    "resnext50_32x4d": {},
    "resnext101_32x8d": {"depth": 101, "cardinality": 32, "width_per_group": 8},
    "wide_resnet50_2": {"depth": 50, "width_per_group": 128},
}


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_torchvisions_weights_load_and_give_the_same(name):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None).eval()
    options = TORCHVISIONS[name]
    ours = (dynbackbones.ResNet(**options) if options else dynbackbones.build_backbone(name)).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    found = {}
    for number in range(1, 5):
        theirs.get_submodule(f"layer{number}").register_forward_hook(
            lambda module, inputs, out, name=f"res{number + 1}": found.update({name: out})
        )
    images = torch.randn(1, 3, 65, 47)
    with torch.no_grad():
        theirs(images)
        features = ours(images)
    for feature, value in features.items():
        torch.testing.assert_close(value, found[feature])


def test_costs_of_a_resnext():
    net = dynbackbones.build_backbone("resnext50_32x4d")
    assert net.title == "ResNeXt-50 (32x4d)"
    head = 2048 * 1000
    assert sum(p.numel() for p in net.parameters()) + head + 1000 == 25_028_904
    assert (net.macs(224, 224) + head) / 1e9 == pytest.approx(4.230, abs=0.0005)


@pytest.mark.parametrize("kind", [dynbackbones.ResNet, dynbackbones.SARResNet])
@pytest.mark.parametrize(
    ("depth", "options", "words"),
    [
        (18, {"cardinality": 32, "width_per_group": 4}, ("cardinality=32", "width_per_group=4")),
        (50, {"cardinality": 0}, ("cardinality", 0)),
        (50, {"width_per_group": 4.5}, ("width_per_group", 4.5)),
    ],
)
def test_wrong_options(kind, depth, options, words):
    with pytest.raises(ValueError, match=naming(*words)):
        kind(depth, **options)
