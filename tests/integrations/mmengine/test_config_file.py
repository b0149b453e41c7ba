"""Bases of a config of mmengine's: ours, a fork's, and those that mmengine finds itself."""

import re

import pytest

pytest.importorskip("mmengine")

from mmengine.config import Config  # noqa: E402

from dynbackbones.integrations.mmengine import config_file  # noqa: E402
from dynbackbones.integrations.mmengine.config_file import read_config  # noqa: E402
from dynbackbones.integrations.shipped_configs import shipped_folder  # noqa: E402

OURS = "configs/demo/sar_semantic_fpn.py"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into the current folder, which is empty at first."""
    monkeypatch.chdir(tmp_path)

    def to(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        return name

    return to


@pytest.mark.parametrize("base", [f'"{OURS}"', f'["{OURS}", "b.py"]', f'["b.py", "./{OURS}"]'])
def test_ours_is_a_base_from_any_folder(write, base):
    write("mine/b.py", "b = 1")
    mine = write("mine/a.py", f"_base_ = {base}\nmodel = dict(backbone=dict(depth=34))\n")
    cfg = read_config(mine)
    whole = Config.fromfile(shipped_folder() / "demo" / "sar_semantic_fpn.py")
    assert whole.model.backbone.depth == 18
    whole.model.backbone.depth = 34
    assert cfg.model == whole.model
    assert cfg.get("b") == (1 if "b.py" in base else None)
    assert cfg.filename.endswith("/a.py")


def test_the_base_of_a_base_is_found_too(write):
    write("parts/b.py", f"_base_ = '{OURS}'\nb = '{{{{ fileDirname }}}}'\n")
    mine = write("a.py", "_base_ = ['parts/b.py']\nname = '{{ fileBasenameNoExtension }}'\n")
    cfg = read_config(mine)
    assert cfg.model.backbone.type == "SARResNet"
    assert (cfg.name, cfg.b.endswith("/parts")) == ("a", True)


def test_a_file_beside_the_config_counts_before_ours(write):
    write(OURS, "c = 1")
    cfg = read_config(write("a.py", f"_base_ = '{OURS}'"))
    assert dict(cfg) == {"c": 1}
    assert cfg.filename == "a.py"


def test_values_of_a_base_can_be_used(write):
    cfg = read_config(write("a.py", f"_base_ = '{OURS}'\ntype_ = _base_.model.backbone.type\n"))
    assert cfg.type_ == "SARResNet"


@pytest.mark.parametrize(
    "text",
    ["_base_ = 'none.py'", "_base_ = 'configs/none.py'", "_base_ = 'mmfoo::a/b.py'", "a = ("],
)
def test_what_is_wrong_stays_mmengines_to_say(write, text):
    mine = write("a.py", text)
    with pytest.raises(Exception) as expected:
        Config.fromfile(mine)
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        read_config(mine)


def test_a_package_under_another_name_is_found(write, monkeypatch):
    mmseg = pytest.importorskip("mmseg")
    base = "mmseg::_base_/models/pspnet_r50-d8.py"
    mine = write("a.py", f"_base_ = ['{base}']")
    monkeypatch.setattr(config_file, "is_installed", lambda name: name != "mmsegmentation")
    cfg = read_config(mine)
    assert cfg.model.decode_head.type == "PSPHead"
    assert mmseg.__name__ == "mmseg"


def test_a_package_under_its_own_name_is_left_to_mmengine(monkeypatch):
    monkeypatch.setattr(config_file, "is_installed", lambda name: True)
    assert config_file._in_a_fork("mmseg::_base_/models/pspnet_r50-d8.py") is None
