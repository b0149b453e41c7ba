"""The options of the package in a config, without any framework."""

import inspect

import pytest
from fvcore.common.config import CfgNode

from dynbackbones.backbones.sar.resnet import SARResNet
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import (
    add_dynbackbones_config,
    build_sar_resnet,
    get_key,
    merge_config,
    sar_options,
)


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
    options = sar_options(cfg)
    others = {"in_channels", "selection", "activation_checkpointing"}
    assert options.keys() == parameters.keys() - others
    assert options.pop("depth") == 50
    for name, value in options.items():
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
    assert build_sar_resnet(cfg, in_channels=4).conv1.weight.shape == (64, 4, 7, 7)


def test_data_sets_are_free_to_name(cfg, tmp_path):
    merged(cfg, tmp_path, "DATASETS: {COCO_FORMAT: {cells: [a.json, images]}}\n")
    assert cfg.DATASETS.COCO_FORMAT.cells == ["a.json", "images"]
    assert cfg.clone().DATASETS.COCO_FORMAT.is_new_allowed()


@pytest.mark.parametrize(
    "text, opts, message",
    [
        ("MODEL: {SAR: {GROUP: 2}}", (), "MODEL.SAR.GROUP; did you mean MODEL.SAR.GROUPS?"),
        ("SEEED: 2", (), "unknown config key SEEED"),
        ("", ("MODEL.SAR.ALPH", "2"), "MODEL.SAR.ALPH; did you mean MODEL.SAR.ALPHA?"),
        ("", ("MODEL.SAR.ALPHA.X", "2"), "unknown config key MODEL.SAR.ALPHA.X"),
        ("", ("MODEL.SAR.ALPHA", "2", "--resume"), "--resume stands behind config overrides; opti"),
        ("", ("MODEL.SAR.ALPHA",), "pairs of KEY VALUE, got 'MODEL.SAR.ALPHA'"),
        ("MODEL: {SAR: {LOSS_WEIGHT: 1}}", (), "MODEL.SAR.LOSS_WEIGHT; write .* 1.0"),
        ("MODEL: 3", (), "config.yaml: "),
        ("a: [", (), "config.yaml line .*: not a plain YAML config"),
        ("x: !!python/name:os.system", (), "line 1: not a plain YAML config"),
        ("_BASE_: none.yaml", (), "none.yaml does not exist"),
    ],
)
def test_mistakes_are_named_in_one_line(cfg, tmp_path, text, opts, message):
    with pytest.raises(UserError, match=message) as caught:
        merged(cfg, tmp_path, text or "VERSION: 2", *opts)
    assert "\n" not in str(caught.value)


def test_a_python_config_is_sent_to_its_tools(cfg):
    with pytest.raises(UserError, match=r"a.py is Python, and a YAML .* tools/train.py and tools"):
        merge_config(cfg, "a.py")


def test_a_depth_that_does_not_count_is_named(cfg, caplog):
    cfg.MODEL.RESNETS = CfgNode({"DEPTH": 101})
    cfg.MODEL.SAR.DEPTH = 18
    build_sar_resnet(cfg)
    assert "building SAR-ResNet-18, as MODEL.SAR.DEPTH says; MODEL.RESNETS.DEPTH 101" in caplog.text
    caplog.clear()
    for depth in (18, 50):
        cfg.MODEL.RESNETS.DEPTH = depth
        build_sar_resnet(cfg)
    assert not caplog.text


def test_wrong_option_values_name_the_node(cfg):
    cfg.MODEL.SAR.GROUPS = 3
    with pytest.raises(UserError, match="MODEL.SAR: groups"):
        build_sar_resnet(cfg)


@pytest.mark.parametrize(
    "key, value, remedy",
    [
        ("MODEL.BACKBONE.FREEZE_AT", 2, "set MODEL.BACKBONE.FREEZE_AT 0 or give weights"),
        ("MODEL.SAR.NORM", "FrozenBN", "set MODEL.SAR.NORM BN or give weights"),
    ],
)
def test_nothing_random_is_frozen(cfg, key, value, remedy):
    cfg.merge_from_list([key, value])
    with pytest.raises(UserError, match=remedy):
        sar_options(cfg)
    cfg.MODEL.WEIGHTS = "weights.pth"
    sar_options(cfg)


def test_get_key_tells_absent_from_none(cfg):
    cfg.MODEL.NOTHING = None
    assert get_key(cfg, "MODEL.NOTHING", "absent") is None
    assert get_key(cfg, "MODEL.SOMETHING", "absent") == "absent"
