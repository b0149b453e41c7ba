"""Checkpoints of other networks than ResNets, run in the libraries they are for."""

import importlib.util

import pytest
import torch
import torchvision

import dynbackbones
from dynbackbones.checkpoints.conversion import convert
from dynbackbones.cli import verification
from dynbackbones.errors import UserError
from tests.made_checkpoints import same, weights
from tests.messages import naming

NETWORKS = [
    ("resnext50_32x4d", {}),
    ("sar_resnext50_32x4d", {"alpha": 1, "groups": 4}),
    ("mobilenet_v2", {"width": 0.75}),
    ("mobilenet_v2", {"last_conv": True}),
    ("sar_mobilenet_v2", {"alpha": 2, "groups": 4}),
    ("sar_mobilenet_v2", {"last_conv": True, "in_channels": 4}),
]
LIBRARY = {"openmmlab": "mmseg"}


@pytest.fixture
def there(tmp_path):
    """Converts weights of a network and writes them."""

    def write(name, options, target):
        state = weights(name, **options)
        torch.save(state, tmp_path / "in.pth")
        conversion = convert(tmp_path / "in.pth", target)
        assert conversion.architecture.name == name
        for option, value in options.items():
            assert conversion.architecture.options[option] == value
        conversion.save(tmp_path / f"{target}.pth", {})
        return conversion, state, tmp_path / f"{target}.pth"

    return write


def converted(there, name, options, target):
    conversion, state, path = there(name, options, target)
    if importlib.util.find_spec(LIBRARY.get(target, target)) is not None:
        result = verification.verify(conversion)
        assert result.networks[-1] == f"{target} (the result)"
        assert not result.problems and result.relative < 1e-5
    assert same(convert(path, "dynbackbones").state(), state)


@pytest.mark.parametrize(("name", "options"), NETWORKS)
@pytest.mark.parametrize("target", ["dynbackbones", "openmmlab"])
def test_every_map_brings_the_weights_back(there, name, options, target):
    converted(there, name, options, target)


@pytest.mark.parametrize(
    ("name", "options", "target"),
    [
        ("resnext50_32x4d", {}, "torchvision"),
        ("resnext50_32x4d", {}, "timm"),
        ("mobilenet_v2", {"last_conv": True, "width": 1.4}, "torchvision"),
    ],
)
def test_plain_networks_are_torchvisions(there, name, options, target):
    converted(there, name, options, target)


def test_torchvisions_file_goes_every_way(tmp_path):
    theirs = torchvision.models.mobilenet_v2(num_classes=7)
    torch.save(theirs.state_dict(), tmp_path / "in.pth")
    conversion = convert(tmp_path / "in.pth", "torchvision")
    assert str(conversion.architecture) == "mobilenet_v2 (last_conv=True)"
    assert same(conversion.state(), theirs.state_dict())
    assert verification.verify(conversion).relative < 1e-5
    own = dynbackbones.build_backbone("mobilenet_v2")
    left_out = dynbackbones.load_weights(own, tmp_path / "in.pth").left_out
    assert all(key.startswith(("features.18.", "classifier.1.")) for key in left_out)
    assert same(own.state_dict(), {k: theirs.state_dict()[k] for k in own.state_dict()})
    with pytest.raises(UserError, match=naming("timm", "mobilenet_v2", "torchvision")):
        convert(tmp_path / "in.pth", "timm")
    torch.save(own.state_dict(), tmp_path / "own.pth")
    with pytest.raises(UserError, match=naming("torchvision", "mobilenet_v2", "openmmlab")):
        convert(tmp_path / "own.pth", "torchvision")


@pytest.mark.detectron2
@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_detectron2_takes_them(there, name, options):
    converted(there, name, options, "detectron2")


def test_the_resnext_within_a_sar_network_comes_out(tmp_path):
    state = weights("sar_resnext50_32x4d", layout="resnet")
    torch.save(state, tmp_path / "in.pth")
    plain = convert(tmp_path / "in.pth", "torchvision", backbone="resnext50_32x4d")
    assert plain.architecture.name == "resnext50_32x4d"
    assert plain.state().keys() == weights("resnext50_32x4d").keys()
