import pytest
import torch
from torch import nn

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from tests.messages import naming


def classifier(name="sar_cifar_resnet20", classes=3):
    """A small model around a backbone."""
    backbone = dynbackbones.build_backbone(name)
    return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(8, classes)})


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("layout", ["own", "module.", "detector.", "state_dict"])
def test_a_whole_model(tmp_path, layout):
    trained, fresh = classifier(), classifier()
    state = trained.state_dict()
    if layout.endswith("."):
        state = {layout + key: value for key, value in state.items()}
    torch.save({"state_dict": state} if layout == "state_dict" else state, tmp_path / "a.pth")
    report = dynbackbones.load_weights(fresh, tmp_path / "a.pth")
    assert same(fresh.state_dict(), trained.state_dict())
    assert str(report) == f"loaded the model from {tmp_path / 'a.pth'}"


def test_the_backbone_of_a_whole_models_file(tmp_path):
    trained, net = classifier(), dynbackbones.build_backbone("sar_cifar_resnet20")
    checkpoints.save(tmp_path / "a.pth", trained.state_dict(), {})
    report = dynbackbones.load_weights(net, str(tmp_path / "a.pth"))
    assert same(net.state_dict(), trained["backbone"].state_dict())
    assert str(report) == f"loaded {tmp_path / 'a.pth'}; left out head.bias, head.weight"


def test_a_backbones_file_starts_a_model(tmp_path):
    net = dynbackbones.build_backbone("cifar_resnet20").state_dict()
    checkpoints.save(tmp_path / "a.pth", {**net, "fc.bias": torch.zeros(2)}, {})
    model = classifier("blockdrop_cifar_resnet20")
    head = model["head"].weight.clone()
    report = dynbackbones.load_weights(nn.DataParallel(model), tmp_path / "a.pth")
    loaded = model["backbone"].state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in net.items())
    assert torch.equal(model["head"].weight, head)
    assert report.left_out == ("fc.bias",)
    assert {"head.weight", "backbone.policy.fc.weight"} < set(report.new)
    assert str(report).endswith(
        "a.pth; the policy network starts anew; pyramid and heads start from scratch; left out "
        "fc.bias"
    )


def test_a_prefix_chooses_one_of_several(tmp_path):
    nets = {name: classifier()["backbone"].state_dict() for name in ("student", "teacher")}
    state = {f"{name}.{key}": v for name, net in nets.items() for key, v in net.items()}
    checkpoints.save(tmp_path / "a.pth", state, {})
    model = classifier()
    dynbackbones.load_weights(model, tmp_path / "a.pth", prefix="teacher")
    assert same(model["backbone"].state_dict(), nets["teacher"])


def test_a_url(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    net = dynbackbones.build_backbone("cifar_resnet20")
    checkpoints.save(tmp_path / "a.pth", net.state_dict(), {})
    url = (tmp_path / "a.pth").as_uri()
    other = dynbackbones.build_backbone("cifar_resnet20")
    assert dynbackbones.load_weights(other, url).source == url
    assert same(net.state_dict(), other.state_dict())


def test_other_classes(tmp_path):
    trained, model = classifier(classes=3), classifier(classes=5)
    checkpoints.save(tmp_path / "a.pth", trained.state_dict(), {})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match=naming("a.pth", "head.bias", "head.weight")):
        dynbackbones.load_weights(model, tmp_path / "a.pth")
    assert same(model.state_dict(), before)
    report = dynbackbones.load_weights(model, tmp_path / "a.pth", allow_other_heads=True)
    assert same(model["backbone"].state_dict(), trained["backbone"].state_dict())
    assert report.new == ("head.bias", "head.weight")
    assert torch.equal(model["head"].weight, before["head.weight"])


def test_weights_of_another_network_change_nothing(tmp_path):
    net = dynbackbones.build_backbone("sar_cifar_resnet20")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = dynbackbones.build_backbone("sar_cifar_resnet20", groups=4).state_dict()
    checkpoints.save(tmp_path / "a.pth", {key: value + 1 for key, value in state.items()}, {})
    message = naming("a.pth", "layer1.refinement.0.conv1.weight")
    with pytest.raises(UserError, match=message) as error:
        dynbackbones.load_weights(net, tmp_path / "a.pth")
    assert "\n" not in str(error.value)
    assert same(net.state_dict(), before)


def test_models_without_a_backbone_or_with_several(tmp_path):
    checkpoints.save(tmp_path / "a.pth", classifier().state_dict(), {})
    with pytest.raises(UserError, match=naming("Linear", "no dynbackbones backbone")):
        dynbackbones.load_weights(nn.Linear(1, 1), tmp_path / "a.pth")
    two = nn.ModuleDict({name: dynbackbones.build_backbone("cifar_resnet20") for name in "ab"})
    with pytest.raises(UserError, match=naming("ModuleDict", 2, "a, b", "model.a")):
        dynbackbones.load_weights(two, tmp_path / "a.pth")


def test_nothing_of_an_unsafe_file_runs(tmp_path):
    class Malicious:
        def __reduce__(self):
            return open, (str(tmp_path / "run"), "w")

    torch.save({"model": {"conv1.weight": Malicious()}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=naming("a.pth", "more than weights")):
        dynbackbones.load_weights(dynbackbones.build_backbone("resnet18"), tmp_path / "a.pth")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["patchdrop_cifar_resnet8", "glance_focus_cifar_resnet8"])
def test_a_classifier_of_several_networks_takes_a_file_of_its_own(name, tmp_path):
    torch.manual_seed(0)
    net, other = (dynbackbones.build_classifier(name, 10) for _ in range(2))
    torch.save(net.state_dict(), tmp_path / "own.pth")
    dynbackbones.load_weights(other, tmp_path / "own.pth")
    state = other.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "others.pth")
    with pytest.raises(UserError, match="several|backbones"):
        dynbackbones.load_weights(other, tmp_path / "others.pth")
