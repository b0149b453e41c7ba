"""Checkpoints of other networks than ResNets, run in the libraries they are for."""

import importlib.util

import pytest
import torch

from dynbackbones.checkpoints.conversion import convert
from dynbackbones.cli import verification
from tests.made_checkpoints import same, weights

NETWORKS = [("resnext50_32x4d", {}), ("sar_resnext50_32x4d", {"alpha": 1, "groups": 4})]
PLAIN = ["resnext50_32x4d"]
LIBRARY = {"openmmlab": "mmseg"}


@pytest.fixture
def there(tmp_path):
    """Converts weights of a network and writes them."""

    def write(name, options, target):
        state = weights(name, **options)
        torch.save(state, tmp_path / "in.pth")
        conversion = convert(tmp_path / "in.pth", target)
        assert conversion.architecture.name == name
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


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("target", ["torchvision", "timm"])
def test_plain_networks_are_torchvisions(there, name, target):
    converted(there, name, {}, target)


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
