import pickle
import re

import pytest
import torch

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.checkpoints import names as key_maps
from dynbackbones.checkpoints.conversion import TARGETS, convert
from dynbackbones.cli import verification
from dynbackbones.errors import UserError
from tests.made_checkpoints import published, same, weights
from tests.messages import naming

SAR4 = ("sar_resnet18", {"groups": 4, "alpha": 1})
SAR_CIFAR = ("sar_cifar_resnet20", {"width": 1.0, "branches": "base"})
DYNAMIC = [("sar_resnet18", {}), SAR4, ("sar_resnet18", {"beta": 0.5}), ("blockdrop_resnet18", {})]
DYNAMIC += [("sar_resnet18", {"base": "dilated"})]
WIDE_CIFAR = ("cifar_resnet20", {"width": 1.5})
CIFAR = [("cifar_resnet20", {}), WIDE_CIFAR, ("blockdrop_cifar_resnet20", {}), SAR_CIFAR]
CIFAR += [("cifar_wide_resnet28_10", {}), ("sar_cifar_wide_resnet28_10", {"groups": 4})]
CIFAR += [("cifar_wide_resnet16", {"width": 8.0}), ("cifar_wide_resnet28", {"width": 2.0})]
CIFAR += [("sar_cifar_wide_resnet16", {"width": 4.0, "groups": 4})]
CIFAR += [("cifar_resnext29_8x32", {}), ("sar_cifar_resnext29_8x32", {"alpha": 1})]


@pytest.fixture(scope="module")
def resnet18():
    return weights("resnet18")


@pytest.fixture(scope="module")
def small():
    return weights("cifar_resnet20")


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


def test_openmmlabs_file_has_the_key_that_mmengine_reads(file, tmp_path, small):
    convert(file(small), "openmmlab").save(tmp_path / "out.pth", {})
    assert checkpoints.load(tmp_path / "out.pth").keys() == {"state_dict", "meta"}


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
    with pytest.raises(UserError, match=naming("--to torchvision", "3x3", "detectron2")):
        convert(tmp_path / "R-50.pkl", "torchvision")
    conversion.save(tmp_path / "again.pth", {})
    again = convert(tmp_path / "again.pth", "detectron2")
    assert again.architecture.options == {"stride_in_1x1": True}


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


def test_what_a_key_is_called_makes_no_published_network(file, resnet18):
    """The published code keeps its networks under names that others use too."""
    for key in ("net", "resnet", "agent"):
        conversion = convert(file({key: resnet18, "acc": 91.2, "epoch": 3}), "torchvision")
        assert same(conversion.state(), resnet18)
        assert conversion.source.remarks == (f"weights under {key!r}",)


def test_one_of_several_networks_is_named(file, small):
    teacher = {key: value + 1 for key, value in small.items()}
    path = file({"student": small, "teacher": teacher})
    with pytest.raises(UserError, match=naming("in.pth", "'student'", "'teacher'", "--from-key")):
        convert(path, "dynbackbones")
    conversion = convert(path, "dynbackbones", source_key="teacher")
    assert same(conversion.state(), teacher)
    both = {f"student.{k}": v for k, v in small.items() if not k.startswith("fc.")}
    both |= {f"teacher.{k}": v for k, v in teacher.items() if not k.startswith("fc.")}
    with pytest.raises(UserError, match=naming("in.pth", "student., teacher.", "--from-prefix")):
        convert(file(both), "dynbackbones")
    for prefix in ("teacher", "teacher."):
        state = convert(file(both), "dynbackbones", source_prefix=prefix).state()
        assert torch.equal(state["conv1.weight"], teacher["conv1.weight"])
    with pytest.raises(UserError, match=naming("--from-prefix 'x'", "in.pth", "student.")):
        convert(file(both), "dynbackbones", source_prefix="x")


@pytest.mark.parametrize(
    "options", [{}, {"alpha": 4, "deep_stem": True}, {"added_norm": "GN", "in_channels": 4}]
)
def test_a_network_around_a_resnet_is_known_and_gives_its_resnet_back(tmp_path, options):
    net = dynbackbones.SARResNet(18, layout="resnet", **options)
    file = tmp_path / "around.pth"
    torch.save(net.state_dict(), file)
    found = convert(file, "dynbackbones").architecture
    assert found.name == "sar_resnet18"
    assert found.options == {"layout": "resnet", "alpha": 2, **options}
    plain = convert(file, "dynbackbones", backbone="resnet18")
    assert plain.architecture.plain
    assert plain.state().keys() == net.state_dict().keys() - net.decision_keys()


@pytest.mark.parametrize("options", [{}, {"layout": "resnet", "alpha": 2}])
def test_selectors_of_whole_stages_are_known(tmp_path, options):
    for shown in ({}, {"regions_per": "stage"}):
        net = dynbackbones.SARResNet(34, **options, **shown)
        torch.save(net.state_dict(), tmp_path / "net.pth")
        found = convert(tmp_path / "net.pth", "dynbackbones").architecture
        assert found.name == "sar_resnet34"
        assert found.options.get("regions_per") == shown.get("regions_per")
