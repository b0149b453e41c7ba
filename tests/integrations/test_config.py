"""The options of the package in a config, without any framework."""

import inspect

import pytest
from fvcore.common.config import CfgNode

from dynbackbones.backbones.factory import registered_backbones
from dynbackbones.backbones.sar.resnet import SARResNet
from dynbackbones.backbones.sar.selection import RegionSelection
from dynbackbones.errors import UserError
from dynbackbones.integrations import options
from dynbackbones.integrations.config import (
    add_dynbackbones_config,
    build_backbone,
    builder_names,
    check_builder,
    chosen_backbone,
)
from dynbackbones.integrations.yaml_files import get_key, merge_config
from tests.messages import naming

SAR = registered_backbones()["sar_resnet"]


@pytest.fixture
def cfg():
    node = CfgNode(
        {
            "MODEL": {"WEIGHTS": "", "BACKBONE": {"FREEZE_AT": 0}},
            "DATASETS": {"TRAIN": ()},
            "VERSION": 2,
        }
    )
    add_dynbackbones_config(node)
    return node


def merged(cfg, tmp_path, text, *opts):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    merge_config(cfg, str(path), opts)
    return cfg


def test_defaults_are_those_of_the_constructor(cfg):
    parameters = inspect.signature(SARResNet).parameters
    arguments = options.constructor_arguments(SAR, cfg.MODEL, in_channels=3)
    assert arguments.keys() == parameters.keys() - {"freeze_at", "selection"}
    assert arguments.pop("depth") == 50
    for name, value in arguments.items():
        assert value == parameters[name].default, name


def test_every_option_can_be_set(cfg):
    for key, value in cfg.MODEL.SAR.items():
        merge_config(cfg, "", [f"MODEL.SAR.{key}", str(value)])
        assert cfg.MODEL.SAR[key] == value


def test_files_and_overrides_are_merged_in_order(cfg, tmp_path):
    (tmp_path / "base.yaml").write_text("MODEL: {SAR: {DEPTH: 18, GROUPS: 4, ALPHA: 1}}\n")
    text = "_BASE_: base.yaml\nMODEL: {SAR: {GROUPS: 1}}\n"
    merged(cfg, tmp_path, text, "MODEL.SAR.ALPHA", "2")
    assert (cfg.MODEL.SAR.DEPTH, cfg.MODEL.SAR.GROUPS, cfg.MODEL.SAR.ALPHA) == (18, 1, 2)
    assert build_backbone(cfg, SAR, in_channels=4).conv1.weight.shape == (64, 4, 7, 7)


def test_data_sets_are_free_to_name(cfg, tmp_path):
    merged(cfg, tmp_path, "DATASETS: {COCO_FORMAT: {cells: [a.json, images]}}\n")
    assert cfg.DATASETS.COCO_FORMAT.cells == ["a.json", "images"]
    assert cfg.clone().DATASETS.COCO_FORMAT.is_new_allowed()


@pytest.mark.parametrize(
    "text, opts, words",
    [
        ("MODEL: {SAR: {GROUP: 2}}", (), ("MODEL.SAR.GROUP", "MODEL.SAR.GROUPS")),
        ("SEEED: 2", (), ("SEEED", "did you mean")),
        ("MODEL: {SARR: {ALPHA: 2}}", (), ("MODEL.SARR", "did you mean MODEL.SAR")),
        ("", ("MODEL.OWN.ALPHA", "2"), ("MODEL.OWN.ALPHA", "MODEL.SAR.ALPHA", "--import")),
        ("", ("MODEL.SAR.ALPH", "2"), ("MODEL.SAR.ALPH", "MODEL.SAR.ALPHA")),
        ("", ("MODEL.SAR.ALPHA.X", "2"), ("MODEL.SAR.ALPHA.X", "unknown")),
        ("", ("MODEL.SAR.ALPHA", "2", "--resume"), ("--resume", "KEY VALUE")),
        ("", ("MODEL.SAR.ALPHA",), ("KEY VALUE", "'MODEL.SAR.ALPHA'")),
        ("MODEL: {SAR: {LOSS_WEIGHT: 1}}", (), ("MODEL.SAR.LOSS_WEIGHT", 1.0)),
        ("MODEL: 3", (), ("config.yaml", "MODEL")),
        ("a: [", (), ("config.yaml", "YAML")),
        (
            "x: !!python/name:os.system",
            (),
            ("config.yaml", "line 1", "YAML", "python/name:os.system"),
        ),
        ("_BASE_: none.yaml", (), ("config.yaml", "_BASE_", "none.yaml")),
        ("_BASE_: config.yaml", (), ("config.yaml", "_BASE_", "back to itself")),
        ("SEED: " + 9999 * "[", (), ("config.yaml", "nested too deeply")),
        ("SEED: 2001-99-99", (), ("config.yaml", "YAML", "month")),
    ],
)
def test_mistakes_are_named_in_one_line(cfg, tmp_path, text, opts, words):
    with pytest.raises(UserError, match=naming(*words)) as caught:
        merged(cfg, tmp_path, text or "VERSION: 2", *opts)
    assert "\n" not in str(caught.value)


def test_a_config_that_is_no_text_is_named(cfg, tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\0")
    with pytest.raises(UserError, match=naming(tmp_path / "config.yaml", "YAML", "decode")):
        merge_config(cfg, str(tmp_path / "config.yaml"))


def test_a_python_config_is_sent_to_its_tools(cfg):
    with pytest.raises(UserError, match=naming("a.py", "dynbackbones train")):
        merge_config(cfg, "a.py")


def test_a_depth_that_does_not_count_is_named(cfg, caplog):
    cfg.MODEL.RESNETS = CfgNode({"DEPTH": 101})
    cfg.MODEL.SAR.DEPTH = 18
    build_backbone(cfg, SAR)
    assert "building sar_resnet18, as MODEL.SAR.DEPTH says; MODEL.RESNETS.DEPTH 101" in caplog.text
    caplog.clear()
    for depth in (18, 50):
        cfg.MODEL.RESNETS.DEPTH = depth
        build_backbone(cfg, SAR)
    assert not caplog.text
    cfg.MODEL.RESNETS = CfgNode({"NUM_GROUPS": 32, "WIDTH_PER_GROUP": 64})
    build_backbone(cfg, SAR)
    assert "as MODEL.SAR.CARDINALITY says; MODEL.RESNETS.NUM_GROUPS 32" in caplog.text


def test_wrong_option_values_name_the_node(cfg):
    cfg.MODEL.SAR.GROUPS = 3
    with pytest.raises(UserError, match=naming("MODEL.SAR", groups=3)):
        build_backbone(cfg, SAR)


@pytest.mark.parametrize(
    "key, value, remedy",
    [
        ("MODEL.BACKBONE.FREEZE_AT", 2, "MODEL.BACKBONE.FREEZE_AT 0"),
        ("MODEL.SAR.NORM", "FrozenBN", "MODEL.SAR.NORM BN"),
    ],
)
def test_nothing_random_is_frozen(cfg, key, value, remedy):
    cfg.merge_from_list([key, value])
    with pytest.raises(UserError, match=naming(key, value, remedy, "MODEL.WEIGHTS")):
        build_backbone(cfg, SAR)
    cfg.MODEL.WEIGHTS = "weights.pth"
    build_backbone(cfg, SAR)


def test_regions_are_chosen_by_name_and_rate(cfg):
    kind, key = "MODEL.SAR.SELECTION", "MODEL.SAR.SELECTION_RATE"
    merge_config(cfg, "", [kind, "random", key, "0.25"])
    assert build_backbone(cfg, SAR).selection == RegionSelection("random", 0.25)
    cfg.merge_from_list([key, 2.0])
    with pytest.raises(UserError, match=naming(kind, "rate", 2.0)):
        build_backbone(cfg, SAR)


def test_builders_are_named_after_the_backbone(cfg):
    names = builder_names(SAR)
    assert names == {
        "": "build_sar_resnet_backbone",
        "maxpool": "build_sar_resnet_fpn_backbone",
        "p6p7": "build_retinanet_sar_resnet_fpn_backbone",
    }
    for name in names.values():
        cfg.MODEL.BACKBONE.NAME = name
        assert chosen_backbone(cfg) is SAR
    cfg.MODEL.BACKBONE.NAME = "build_of_a_project"
    assert chosen_backbone(cfg) is None


@pytest.mark.parametrize(
    "kind, name, levels, right",
    [
        (
            "RetinaNet",
            "build_sar_resnet_fpn_backbone",
            ["p3", "p7"],
            "build_retinanet_sar_resnet_fpn_backbone",
        ),
        ("RetinaNet", "build_sar_resnet_fpn_backbone", ["p3", "p6"], None),
        ("RetinaNet", "build_retinanet_sar_resnet_fpn_backbone", ["p3", "p7"], None),
        (
            "GeneralizedRCNN",
            "build_retinanet_sar_resnet_fpn_backbone",
            ["p3"],
            "build_sar_resnet_fpn_backbone",
        ),
        ("GeneralizedRCNN", "build_retinanet_sar_resnet_fpn_backbone", ["p3", "p7"], None),
        ("GeneralizedRCNN", "build_retinanet_sar_resnet_fpn_backbone", ["res4"], None),
        ("GeneralizedRCNN", "build_sar_resnet_backbone", ["p3"], None),
        ("GeneralizedRCNN", "build_of_a_project", ["p3"], None),
        ("ArchitectureOfAProject", "build_sar_resnet_fpn_backbone", ["p3", "p7"], None),
    ],
)
def test_a_pyramid_of_another_detector_is_named(cfg, kind, name, levels, right):
    cfg.MODEL.META_ARCHITECTURE = kind
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.RETINANET = CfgNode({"IN_FEATURES": levels})
    cfg.MODEL.RPN = CfgNode({"IN_FEATURES": levels})
    if right is None:
        check_builder(cfg)
        return
    with pytest.raises(UserError, match=naming(f"NAME {name}", f"META_ARCHITECTURE {kind}", right)):
        check_builder(cfg)


def test_get_key_tells_absent_from_none(cfg):
    cfg.MODEL.NOTHING = None
    assert get_key(cfg, "MODEL.NOTHING", "absent") is None
    assert get_key(cfg, "MODEL.SOMETHING", "absent") == "absent"
