"""Our own configs are found from any folder, and copied to be edited."""

import os
from pathlib import Path

import pytest

from dynbackbones.cli import configs
from dynbackbones.errors import UserError
from dynbackbones.integrations.shipped_configs import copy_configs, find_config, shipped_folder
from dynbackbones.integrations.torchvision.config import load_config
from tests.messages import naming

NAME = "configs/demo/sar_retinanet.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The current folder is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "path", [NAME, f"./{NAME}", Path(NAME), "configs/lazy/../demo/retinanet.yaml"]
)
def test_ours_is_found_where_there_is_no_such_file_and_that_is_said(path, capsys):
    found = find_config(path)
    assert found == os.path.normpath(shipped_folder().parent / path)
    assert capsys.readouterr().out == f"config {path}: {found}, as there is none here\n"


def test_a_file_of_the_users_always_counts(elsewhere, capsys):
    write(elsewhere / NAME)
    assert find_config(NAME) == NAME
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "path",
    ["configs/none.yaml", "demo/sar_retinanet.yaml", "/configs/sar_retinanet.yaml", "configs"],
)
def test_what_is_not_ours_is_left_as_it_is(path):
    assert find_config(path) == path


def test_a_base_is_looked_for_beside_the_config_first(elsewhere):
    mine = write(elsewhere / "mine" / "a.yaml")
    assert find_config(NAME, base_of=mine) == str(shipped_folder() / "demo" / "sar_retinanet.yaml")
    beside = write(elsewhere / "mine" / NAME)
    assert find_config(NAME, base_of=mine) == str(beside)
    assert find_config("b.yaml", base_of=mine) == str(elsewhere / "mine" / "b.yaml")


def test_copies_overwrite_nothing(elsewhere):
    kept = write(elsewhere / "a" / "demo" / "sar_retinanet.yaml", "mine")
    with pytest.raises(UserError, match=naming(kept, "overwritten")):
        copy_configs(elsewhere / "a")
    assert kept.read_text() == "mine"
    assert [p.name for p in (elsewhere / "a").rglob("*")] == ["demo", "sar_retinanet.yaml"]


def test_copies_count_afterwards(elsewhere, capsys):
    configs.main(["--copy", "configs"])
    files = list((elsewhere / "configs").rglob("*.*"))
    assert capsys.readouterr().out == f"{len(files)} files copied to configs\n"
    assert find_config(NAME) == NAME
    assert Path(NAME).read_text() == (shipped_folder() / "demo" / "sar_retinanet.yaml").read_text()


def test_a_folder_that_cannot_be_made(elsewhere):
    write(elsewhere / "file")
    with pytest.raises(UserError, match=naming(elsewhere / "file", "written")):
        copy_configs(elsewhere / "file" / "a")


def test_the_list_has_what_a_command_takes(capsys):
    configs.main([])
    *names, _, where = capsys.readouterr().out.splitlines()
    assert NAME in names and "configs/pretrain/sar_resnet50_imagenet.py" in names
    assert not [name for name in names if "_base_" in name or "Base-" in name or "README" in name]
    assert str(shipped_folder()) in where


@pytest.mark.parametrize("base", [NAME, f"[b.yaml, {NAME}]", "between.yaml"])
def test_ours_is_a_base_of_a_yaml_file(elsewhere, base):
    write(elsewhere / "mine" / "b.yaml", "SEED: 9\n")
    write(elsewhere / "mine" / "between.yaml", f"_BASE_: {NAME}\nSEED: 9\n")
    mine = write(elsewhere / "mine" / "a.yaml", f"_BASE_: {base}\nMODEL: {{SAR: {{GROUPS: 4}}}}\n")
    cfg, whole = load_config(str(mine)), load_config(NAME)
    assert (cfg.MODEL.SAR.GROUPS, whole.MODEL.SAR.GROUPS) == (4, 0)
    whole.defrost()
    whole.MODEL.SAR.GROUPS = 4
    whole.SEED = cfg.SEED
    assert cfg == whole


def test_mistakes_beside_a_base_of_ours_name_the_users_file(elsewhere):
    mine = write(elsewhere / "a.yaml", f"_BASE_: {NAME}\nMODEL: {{SAR: {{GROUP: 4}}}}\n")
    with pytest.raises(UserError, match=naming(mine, "MODEL.SAR.GROUP", "MODEL.SAR.GROUPS")):
        load_config(str(mine))


def test_a_base_that_nobody_has(elsewhere):
    mine = write(elsewhere / "a.yaml", "_BASE_: configs/none.yaml\n")
    with pytest.raises(UserError, match=naming(mine, "_BASE_", elsewhere / "configs/none.yaml")):
        load_config(str(mine))
