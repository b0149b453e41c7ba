import json
import pickle
import re

import pytest
import torch

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.cli import convert as command
from dynbackbones.errors import UserError
from tests.made_checkpoints import published, same, weights
from tests.messages import naming


@pytest.fixture(scope="module")
def resnet18():
    return weights("resnet18")


@pytest.fixture(scope="module")
def small():
    return weights("cifar_resnet20")


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs the command into a mistake of the user, and makes sure that nothing was written."""

    def call(*arguments, match):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UserError, match=match) as caught:
            command.main([str(argument) for argument in arguments])
        assert "\n" not in str(caught.value)
        assert sorted(tmp_path.iterdir()) == before

    return call


def test_the_command_writes_weights_and_where_they_come_from(file, tmp_path, capsys, resnet18):
    source, out = file({"state_dict": resnet18, "meta": {"cfg": "model = 1"}}), tmp_path / "out.pth"
    command.main([source, "--to", "torchvision", "-o", str(out)])
    printed = capsys.readouterr().out
    assert "resnet18 of torchvision" in printed
    assert f"mapped {len(resnet18)} keys" in printed
    assert "verified: torchvision (the file) and torchvision (the result)" in printed
    loaded = checkpoints.load(out)
    assert loaded.keys() == {"model", "meta"}
    assert same(loaded["model"], resnet18)
    meta = loaded["meta"]
    assert meta["verification"]["verified"] is True
    assert (meta["backbone"], meta["format"]) == ("resnet18", "torchvision")
    assert meta["source"]["path"] == source
    assert re.fullmatch("[0-9a-f]{64}", meta["source"]["sha256"])
    assert meta["source"]["config"] == "model = 1"
    assert meta["converter"]["dynbackbones"] == dynbackbones.__version__
    assert ["fc.bias", "fc.bias"] in meta["report"]["mapped"]
    json.dumps(meta)


def test_every_key_is_listed_on_request(file, tmp_path, capsys, small):
    arguments = [file(small), "--to", "dynbackbones", "-o", str(tmp_path / "out.pth")]
    command.main([*arguments, "--verbose"])
    printed = capsys.readouterr().out
    for key in small:
        assert f"    {key} -> {key}\n" in printed


def test_what_is_not_a_network_here_is_refused(file, tmp_path, refused, small):
    def without(*keys):
        return {k: v for k, v in small.items() if k not in keys}

    stem = without("conv1.weight") | {"conv1.0.weight": torch.zeros(32, 3, 3, 3)}
    policy = published(small, parts=()) | {"agent": {"logit.bias": torch.zeros(9)}}
    conv = "layer1.0.conv1.weight"
    for content, words in (
        (without(conv), ("cifar_resnet20", f"1 missing ({conv})")),
        (
            {**small, "neck.weight": torch.zeros(1)},
            ("cifar_resnet20", "1 unexpected (neck.weight)"),
        ),
        (
            {**small, conv: torch.zeros(32, 16, 3, 3)},
            ("cifar_resnet20", f"1 of another shape ({conv} (32, 16, 3, 3)", (16, 16, 3, 3)),
        ),
        (stem, ("stem", "three convolutions")),
        ({"linear.weight": torch.zeros(2, 2)}, ("linear", conv)),
        ({f"{p}.{k}": v for k, v in small.items() for p in "ab"}, ("2 backbones", "a., b.")),
        ({**small, "fc.weight": torch.zeros(9, 4)}, ("fc.weight", (9, 4), 64)),
        ({**small, "bn1.bias": torch.full((16,), torch.inf)}, ("finite", "bn1.bias")),
        (policy, ("'resnet'", "policy network")),
    ):
        source, out = file(content), tmp_path / "o.pth"
        refused(source, "--to", "openmmlab", "-o", out, match=naming(source, *words))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backbone", "cifar_resnet32"], ("in.pth", "cifar_resnet32", "cifar_resnet20")),
        (["--backbone", "resnet19"], ("--backbone", "resnet19", "resnet18")),
        (["--from", "detectron2"], ("--from", "in.pth", "detectron2", "torchvision")),
        (["--stride-in-1x1"], ("--stride-in-1x1", "cifar_resnet20")),
        (["--to", "dynbackbones", "--prefix", "a."], ("--prefix", "openmmlab", "dynbackbones")),
    ],
)
def test_wrong_options_are_refused(file, tmp_path, refused, small, options, words):
    out = ["--to", "openmmlab", "-o", tmp_path / "out.pth"]
    refused(file(small), *out, *options, match=naming(*words))


def test_another_depth_is_refused(file, tmp_path, refused, resnet18):
    out = ["--to", "openmmlab", "-o", tmp_path / "out.pth"]
    words = ("in.pth", "resnet34", "resnet18", "--backbone")
    refused(file(resnet18), *out, "--backbone", "resnet34", match=naming(*words))
    deeper = {**resnet18, "layer3.2.conv1.weight": torch.zeros(256, 256, 3, 3)}
    words = ("in.pth", "resnet18", "1 unexpected (layer3.2.conv1.weight)")
    refused(file(deeper), *out, match=naming(*words))


def test_targets_without_the_network_are_refused(file, tmp_path, refused):
    out = ["-o", tmp_path / "out.pth"]
    sar = file(weights("sar_cifar_resnet20"), "sar.pth")
    match = naming("--to", "torchvision", "sar_cifar_resnet20", "dynbackbones")
    refused(sar, "--to", "torchvision", *out, match=match)
    blockdrop = file(weights("blockdrop_resnet18"), "blockdrop.pth")
    match = naming("--to", "timm", "blockdrop_resnet18", "--backbone resnet18")
    refused(blockdrop, "--to", "timm", *out, match=match)
    cifar = file(weights("cifar_resnet20"), "cifar.pth")
    match = naming("--to", "detectron2", "cifar_resnet20", "openmmlab")
    refused(cifar, "--to", "detectron2", *out, match=match)


def test_outputs_that_may_not_be_written_are_refused(file, tmp_path, refused, small):
    source = file(small)
    (tmp_path / "old.pth").write_text("old")
    (tmp_path / "folder.pth").mkdir()
    for out, options, word in (
        ("old.pth", [], "--overwrite"),
        ("in.pth", ["--overwrite"], "source"),
        ("folder.pth", [], "folder"),
        ("out.pkl", [], ".pth"),
        ("old.pth/out.pth", [], "written"),
    ):
        arguments = [source, "--to", "dynbackbones", "-o", tmp_path / out, *options]
        refused(*arguments, match=naming(tmp_path / out, word))
    assert (tmp_path / "old.pth").read_text() == "old"
    arguments = [source, "--to", "dynbackbones", "-o", tmp_path / "old.pth", "--overwrite"]
    command.main([str(argument) for argument in arguments])
    assert "model" in checkpoints.load(tmp_path / "old.pth")


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (self.target, "w")


@pytest.mark.parametrize("name", ["in.pth", "in.pkl"])
def test_a_malicious_file_is_refused_and_not_run(tmp_path, refused, name):
    content = {"model": {"conv1.weight": Malicious(str(tmp_path / "run"))}}
    (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    out = ["--to", "torchvision", "-o", tmp_path / "out.pth"]
    refused(tmp_path / name, *out, match=naming(tmp_path / name, ".open"))


def test_a_missing_file_is_refused(tmp_path, refused):
    out = ["--to", "torchvision", "-o", tmp_path / "out.pth"]
    refused(tmp_path / "none.pth", *out, match=naming(tmp_path / "none.pth", "exist"))


def test_the_weights_in_the_source_can_be_named(file, tmp_path, capsys, small):
    nets = {"a": {key: value + 1 for key, value in small.items()}}
    nets["b"] = {f"net.{key}": value for key, value in small.items()}
    nets["b"]["other.layer1.0.conv1.weight"] = torch.zeros(1)
    options = ["--from-key", "b", "--from-prefix", "net."]
    out = tmp_path / "out.pth"
    command.main([file(nets), "--to", "dynbackbones", "-o", str(out), *options])
    assert "; weights under 'b'" in capsys.readouterr().out
    assert torch.equal(checkpoints.load(out)["model"]["conv1.weight"], small["conv1.weight"])
