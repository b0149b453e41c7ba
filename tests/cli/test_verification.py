import pytest
import torch

from dynbackbones.checkpoints.conversion import convert
from dynbackbones.cli import library_networks, verification
from dynbackbones.errors import UserError
from tests.made_checkpoints import weights
from tests.messages import naming


@pytest.fixture(scope="module")
def resnet18():
    return weights("resnet18")


@pytest.mark.parametrize("target", ["torchvision", "dynbackbones"])
def test_the_networks_are_run_and_compared(file, resnet18, target):
    conversion = convert(file(resnet18), target)
    result = verification.verify(conversion)
    assert not result.problems
    assert result.networks == ["torchvision (the file)", f"{target} (the result)"]
    assert result.relative < 1e-5
    assert str(result).startswith("verified: torchvision (the file) and ")


def test_a_wrong_map_is_found_by_running(file, resnet18):
    conversion = convert(file(resnet18), "torchvision")
    for stage in ("layer2", "layer3"):
        names = f"{stage}.0.bn2.weight", f"{stage}.1.bn2.weight"
        first, second = (conversion.backbone[name] for name in names)
        conversion.backbone.update(zip(names, (second, first), strict=True))
    with pytest.raises(UserError, match=naming("res3", "torchvision (the file)")):
        verification.verify(conversion)


def test_scores_are_compared_too(file, resnet18):
    conversion = convert(file(resnet18), "torchvision")
    outputs = library_networks.run(
        "dynbackbones",
        conversion.architecture,
        conversion.backbone,
        conversion.head,
        torch.zeros(1, 3, 64, 64),
    )
    assert outputs.keys() == {"res2", "res3", "res4", "res5", "scores"}
    other = {"scores": outputs["scores"] * float("nan")}
    with pytest.raises(UserError, match=naming("scores", "x", "nan")):
        verification._compare(outputs, other, "x", verification.Verification())


def test_a_library_that_is_missing_is_said(file, resnet18, monkeypatch):
    def missing(module):
        raise library_networks.NotBuilt(f"which cannot be imported (no {module})")

    monkeypatch.setattr(library_networks, "_imported", missing)
    result = verification.verify(convert(file(resnet18), "timm"))
    assert str(result) == (
        "NOT verified: the file was not run in torchvision, which cannot be imported (no "
        "torchvision.models); the result was not run in timm, which cannot be imported (no timm)"
    )
    assert result.as_meta()["verified"] is False
