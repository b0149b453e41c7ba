import json
import pickle
import re

import pytest
import torch

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.checkpoints import names as key_maps
from dynbackbones.checkpoints.conversion import TARGETS, convert
from dynbackbones.cli import convert as command
from dynbackbones.cli import verification
from dynbackbones.errors import UserError

CLASSES = 5
SAR4 = ("sar_resnet18", {"groups": 4, "alpha": 1})
SAR_CIFAR = ("sar_cifar_resnet20", {"width": 1.0, "branches": "base"})
DYNAMIC = [("sar_resnet18", {}), SAR4, ("sar_resnet18", {"beta": 0.5}), ("blockdrop_resnet18", {})]
CIFAR = [("cifar_resnet20", {}), ("blockdrop_cifar_resnet20", {}), SAR_CIFAR]


def weights(name, classifier=True, **options):
    """Weights of a network and a classifier that no initialisation gives; two times the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = dynbackbones.build_backbone(name, **options)
        state = {}
        for key, value in net.state_dict().items():
            if key.endswith("num_batches_tracked"):
                value = torch.tensor(7)
            elif value.ndim == 1:
                value = torch.rand(value.shape) + 0.5
            state[key] = value
        channels = list(net.feature_info.values())[-1].channels
        head = {"fc.weight": torch.randn(CLASSES, channels), "fc.bias": torch.randn(CLASSES)}
    return {**state, **head} if classifier else state


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def resnet18():
    return weights("resnet18")


@pytest.fixture(scope="module")
def small():
    return weights("cifar_resnet20")


@pytest.fixture
def file(tmp_path):
    """Saves a file and returns its path."""

    def write(content, name="in.pth"):
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return write


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


@pytest.mark.parametrize("target", TARGETS)
def test_every_map_of_a_resnet_brings_the_weights_back(file, tmp_path, resnet18, target):
    there = convert(file(resnet18), target)
    there.save(tmp_path / "there.pth", {})
    back = convert(tmp_path / "there.pth", "torchvision")
    assert back.source.format == target
    assert same(back.state(), resnet18)
    assert not back.report.dropped and not back.report.missed and not back.report.added
    assert len(back.report.mapped) == len(resnet18)


@pytest.mark.parametrize(
    ("name", "options", "target"),
    [(*net, target) for net in DYNAMIC for target in ("openmmlab", "detectron2")]
    + [(*net, "openmmlab") for net in CIFAR],
)
def test_every_map_of_other_networks_brings_the_weights_back(file, tmp_path, name, options, target):
    state = weights(name, **options)
    there = convert(file(state), target)
    assert there.architecture.name == name
    for option, value in options.items():
        assert there.architecture.options[option] == value
    there.save(tmp_path / "there.pth", {})
    back = convert(tmp_path / "there.pth", "dynbackbones")
    assert back.source.format == target
    assert same(back.state(), state)


def test_the_names_that_each_library_expects(file, resnet18):
    source, sar = file(resnet18), file(weights("sar_resnet18"), "sar.pth")
    for arguments, expected in {
        (source, "torchvision"): ("bn1.weight", "fc.bias"),
        (source, "openmmlab"): ("backbone.bn1.weight", "head.fc.bias"),
        (source, "openmmlab", ""): ("bn1.weight", "head.fc.bias"),
        (source, "detectron2"): (
            "backbone.bottom_up.stem.conv1.norm.weight",
            "backbone.bottom_up.linear.bias",
        ),
        (source, "detectron2", "backbone"): (
            "backbone.stem.conv1.norm.weight",
            "backbone.linear.bias",
        ),
        (sar, "detectron2"): (
            "backbone.bottom_up.net.bn1.weight",
            "backbone.bottom_up.net.linear.bias",
        ),
    }.items():
        path, target, *prefix = arguments
        state = convert(path, target, prefix=prefix[0] if prefix else None).state()
        assert set(expected) <= state.keys(), arguments


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
    with pytest.raises(UserError, match=r"res3 of torchvision \(the file\) differs .*is written"):
        verification.verify(conversion)


def test_scores_are_compared_too(file, resnet18):
    conversion = convert(file(resnet18), "torchvision")
    outputs = verification._run_own(
        conversion.architecture, conversion.backbone, conversion.head, torch.zeros(1, 3, 64, 64)
    )
    assert outputs.keys() == {"res2", "res3", "res4", "res5", "scores"}
    other = {"scores": outputs["scores"] * float("nan")}
    with pytest.raises(UserError, match="scores of x differs .* by nan"):
        verification._compare(outputs, other, "x", verification.Verification())


def test_a_library_that_is_missing_is_said(file, resnet18, monkeypatch):
    def missing(module):
        raise verification.NotBuilt(f"which cannot be imported (no {module})")

    monkeypatch.setattr(verification, "_imported", missing)
    result = verification.verify(convert(file(resnet18), "timm"))
    assert str(result) == (
        "NOT verified: the file was not run in torchvision, which cannot be imported (no "
        "torchvision.models); the result was not run in timm, which cannot be imported (no timm)"
    )
    assert result.as_meta()["verified"] is False


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


def test_openmmlabs_file_has_the_key_that_mmengine_reads(file, tmp_path, small):
    convert(file(small), "openmmlab").save(tmp_path / "out.pth", {})
    assert checkpoints.load(tmp_path / "out.pth").keys() == {"state_dict", "meta"}


def test_every_key_is_listed_on_request(file, tmp_path, capsys, small):
    arguments = [file(small), "--to", "dynbackbones", "-o", str(tmp_path / "out.pth")]
    command.main([*arguments, "--verbose"])
    printed = capsys.readouterr().out
    for key in small:
        assert f"    {key} -> {key}\n" in printed


def test_parts_beside_the_backbone_are_dropped_and_listed(file, resnet18):
    state = {f"backbone.{k}": v for k, v in resnet18.items() if not k.startswith("fc.")}
    state["decode_head.conv_seg.weight"] = torch.zeros(3, 4, 1, 1)
    conversion = convert(file({"state_dict": state}), "detectron2")
    assert conversion.source.format == "openmmlab"
    assert conversion.report.dropped == {"no part of the backbone": ["decode_head.conv_seg.weight"]}
    assert not conversion.head


def test_the_classifier_is_left_out_on_request(file, resnet18):
    conversion = convert(file(resnet18), "detectron2", classifier=False)
    assert not any("linear" in key or "fc" in key for key in conversion.state())
    (keys,) = conversion.report.dropped.values()
    assert keys == ["fc.bias", "fc.weight"]


def test_frozen_norms_without_counters_are_complete(file, resnet18):
    state = {k: v for k, v in resnet18.items() if not k.endswith("num_batches_tracked")}
    conversion = convert(file(state), "openmmlab")
    (missed,) = conversion.report.missed.values()
    assert len(missed) == 20
    assert verification.verify(convert(file(state), "torchvision")).relative < 1e-5


def caffe2(state):
    """A ResNet-50 as detectron2's R-50.pkl has it: Caffe2's names, norms without statistics."""
    named = {"conv1_b": torch.zeros(64).numpy()}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        if kind not in ("weight", "bias"):
            continue
        norm = layer.startswith("bn") or ".bn" in layer or layer.endswith("downsample.1")
        if layer in ("conv1", "bn1", "fc"):
            name = {"conv1": "conv1", "bn1": "res_conv1_bn", "fc": "fc1000"}[layer]
        else:
            stage, block, rest = re.fullmatch(r"layer(\d)\.(\d+)\.(.*)", layer).groups()
            branch = "1" if "downsample" in rest else "2" + "abc"[int(rest[-1]) - 1]
            name = f"res{int(stage) + 1}_{block}_branch{branch}" + ("_bn" if norm else "")
        kinds = {"weight": "s" if norm else "w", "bias": "b"}
        named[f"{name}_{kinds[kind]}"] = value.numpy()
    return named


def test_caffe2s_pickle(tmp_path):
    state = weights("resnet50")
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(caffe2(state)))
    conversion = convert(tmp_path / "R-50.pkl", "dynbackbones")
    assert str(conversion.architecture) == "resnet50 (stride_in_1x1=True)"
    result = conversion.state()
    for key, value in state.items():
        if "running" not in key and "tracked" not in key:
            assert torch.equal(result[key], value), key
    assert result["bn1.running_mean"].abs().sum() == 0
    assert conversion.report.dropped == {"a bias that detectron2 leaves out too": ["conv1_b"]}
    with pytest.raises(UserError, match="torchvision's ResNets have their strides in the 3x3"):
        convert(tmp_path / "R-50.pkl", "torchvision")
    conversion.save(tmp_path / "again.pth", {})
    again = convert(tmp_path / "again.pth", "detectron2")
    assert again.architecture.options == {"stride_in_1x1": True}


def published(state, parts=("agent", "resnet")):
    """A checkpoint as the code published with BlockDrop writes it."""
    found = {part: {} for part in parts}
    for key, value in state.items():
        part, name = "resnet", key
        if key.startswith("policy."):
            part, name = "agent", key.removeprefix("policy.")
        name = re.sub(r"layer(\d)\.0\.downsample", lambda m: f"ds.{int(m[1]) - 1}", name)
        name = re.sub(r"layer(\d)", lambda m: f"blocks.{int(m[1]) - 1}", name)
        if part == "agent":
            name = name.replace("fc.", "logit.") if "fc." in name else f"features.{name}"
        if name != "features.threshold" and part in found:
            found[part][name] = value
    if "agent" in found:
        found["agent"]["vnet.weight"] = torch.zeros(1, 64)
    return {**found, "epoch": 3, "reward": 0.5, "acc": 0.9}


@pytest.mark.parametrize("name", ["blockdrop_cifar_resnet32", "blockdrop_resnet18"])
def test_the_published_blockdrop_checkpoints(file, name):
    state = weights(name)
    conversion = convert(file(published(state), "ckpt.t7"), "dynbackbones")
    assert conversion.architecture.name == name
    assert conversion.source.format == "blockdrop"
    state["policy.threshold"] = torch.zeros(())
    assert same(conversion.state(), state)
    assert conversion.report.dropped == {
        "the policy's value network, which nothing here uses": ["agent.vnet.weight"]
    }
    if name != "blockdrop_cifar_resnet32":
        return  # a large network takes long to run
    result = verification.verify(conversion)
    assert result.problems == [
        "the file was not run in the published BlockDrop code, which is no importable package"
    ]


def test_a_plain_network_is_taken_out_of_a_blockdrop_network(file):
    state = weights("blockdrop_resnet18")
    conversion = convert(file(state), "torchvision", backbone="resnet18")
    plain = {key: value for key, value in state.items() if not key.startswith("policy.")}
    assert same(conversion.state(), plain)
    (dropped,) = conversion.report.dropped.values()
    assert len(dropped) == len(state) - len(plain)


def test_names_of_the_published_code():
    for name, expected in {
        "resnet.conv1.weight": "conv1.weight",
        "resnet.blocks.2.22.bn3.bias": "layer3.22.bn3.bias",
        "resnet.ds.3.1.running_var": "layer4.0.downsample.1.running_var",
        "agent.features.blocks.0.0.conv1.weight": "policy.layer1.0.conv1.weight",
        "agent.logit.bias": "policy.fc.bias",
        "agent.vnet.bias": None,
        "resnet.layer1.0.conv1.weight": None,
    }.items():
        assert key_maps.from_blockdrop(name) == expected


def test_what_is_not_a_network_here_is_refused(file, tmp_path, refused, small):
    def without(*keys):
        return {k: v for k, v in small.items() if k not in keys}

    stem = without("conv1.weight") | {"conv1.0.weight": torch.zeros(32, 3, 3, 3)}
    policy = published(small, parts=()) | {"agent": {"logit.bias": torch.zeros(9)}}
    for content, message in (
        (
            without("layer2.0.conv1.weight"),
            r"beside cifar_resnet20 it has 1 missing \(layer2.0.conv1.weight\); known:",
        ),
        ({**small, "neck.weight": torch.zeros(1)}, r"1 unexpected \(neck.weight\); known:"),
        (
            {**small, "layer1.0.conv1.weight": torch.zeros(32, 16, 3, 3)},
            r"1 of another shape \(layer1.0.conv1.weight \(32, 16, 3, 3\) instead of \(16, 16",
        ),
        (stem, "has a stem of three convolutions .*: this package has no such network"),
        ({"linear.weight": torch.zeros(2, 2)}, "no network that is known here: expected names"),
        ({f"{p}.{k}": v for k, v in small.items() for p in "ab"}, r"has 2 backbones \(a\., b"),
        (
            {**small, "fc.weight": torch.zeros(9, 4)},
            r"classifier fc.weight \(9, 4\) does not fit the 64 channels",
        ),
        ({**small, "bn1.bias": torch.full((16,), torch.inf)}, "not finite in 1 keys .bn1.bias"),
        (policy, "no 'resnet', only the policy network"),
    ):
        refused(file(content), "--to", "openmmlab", "-o", tmp_path / "o.pth", match=message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "cifar_resnet32"], "in.pth is not a cifar_resnet32 but a cifar_resnet20:"),
        (["--backbone", "resnet19"], "--backbone resnet19 is unknown; known: "),
        (["--from", "detectron2"], "--from detectron2: .* has the names of torchvision; leave"),
        (["--stride-in-1x1"], "--stride-in-1x1: a cifar_resnet20 has no such convolutions"),
        (["--to", "dynbackbones", "--prefix", "a."], "--prefix is for openmmlab and detectron2"),
    ],
)
def test_wrong_options_are_refused(file, tmp_path, refused, small, options, message):
    out = ["--to", "openmmlab", "-o", tmp_path / "out.pth"]
    refused(file(small), *out, *options, match=message)


def test_another_depth_is_refused(file, tmp_path, refused, resnet18):
    out = ["--to", "openmmlab", "-o", tmp_path / "out.pth"]
    message = "is not a resnet34 but a resnet18: leave --backbone away"
    refused(file(resnet18), *out, "--backbone", "resnet34", match=message)
    deeper = {**resnet18, "layer3.2.conv1.weight": torch.zeros(256, 256, 3, 3)}
    message = r"beside resnet18 it has 1 unexpected \(layer3.2.conv1.weight\)"
    refused(file(deeper), *out, match=message)


def test_targets_without_the_network_are_refused(file, tmp_path, refused):
    out = ["-o", tmp_path / "out.pth"]
    sar = file(weights("sar_cifar_resnet20"), "sar.pth")
    refused(sar, "--to", "torchvision", *out, match="has no sar_cifar_resnet20; possible are dynb")
    blockdrop = file(weights("blockdrop_resnet18"), "blockdrop.pth")
    refused(blockdrop, "--to", "timm", *out, match="--backbone resnet18 takes its ResNet without")
    cifar = file(weights("cifar_resnet20"), "cifar.pth")
    refused(cifar, "--to", "detectron2", *out, match="there is no cifar_resnet20 in detectron2")


def test_outputs_that_may_not_be_written_are_refused(file, tmp_path, refused, small):
    source = file(small)
    (tmp_path / "old.pth").write_text("old")
    (tmp_path / "folder.pth").mkdir()
    for out, options, message in (
        ("old.pth", [], "old.pth exists; name another file, or add --overwrite"),
        ("in.pth", ["--overwrite"], "in.pth is the source itself; name another"),
        ("folder.pth", [], "folder.pth is a folder; name a file in it"),
        ("out.pkl", [], "out.pkl: the file's name must end in .pth"),
        ("old.pth/out.pth", [], "out.pth cannot be written: "),
    ):
        arguments = [source, "--to", "dynbackbones", "-o", tmp_path / out, *options]
        refused(*arguments, match=message)
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
    refused(tmp_path / name, *out, match=r"holds more than weights \(\w+\.open\)")


def test_a_missing_file_is_refused(tmp_path, refused):
    out = ["--to", "torchvision", "-o", tmp_path / "out.pth"]
    refused(tmp_path / "none.pth", *out, match="none.pth does not exist; check the path")
