"""The command ``dynbackbones stream-table`` on a segmentor."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from dynbackbones.cli import stream_table
from dynbackbones.errors import UserError
from dynbackbones.experiments.stream_data import segmentation
from tests.integrations.openmmlab.conftest import CONFIGS
from tests.messages import naming

CAMVID = "mmseg/r18_pspnet_1xb4-3k_camvid-240x320.py"


@pytest.fixture
def files(config_file, tmp_path):
    config = config_file(CAMVID)
    torch.manual_seed(0)
    init_default_scope("mmseg")
    model = MODELS.build(Config.fromfile(config).model)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "own.pth")
    return ["--config-file", str(config), "--weights", str(tmp_path / "own.pth")]


def test_a_segmentor_has_its_tables(files, tmp_path, capsys):
    few = ["--max-age", "1", "--timed", "2", "--shares", "0.5"]
    stream_table.main([*files, *few, "-o", str(tmp_path / "t.json")])
    rows = {row["name"]: row for row in json.loads((tmp_path / "t.json").read_text())["rows"]}
    assert "mIoU" in capsys.readouterr().out
    assert 0 <= rows["half resolution, every frame"]["score"] <= 100
    # The samples are noise on coloured blocks: an untrained network is wrong on all of them.
    assert rows["every frame"]["score"] < 60


def test_overrides_of_a_python_config_are_assignments(files, tmp_path):
    place = "test_dataloader.dataset.data_root"
    with pytest.raises(UserError, match=naming(tmp_path / "none", "data_root")):
        stream_table.main([*files, f"{place}={tmp_path / 'none'}"])
    with pytest.raises(UserError, match=naming(place, "KEY=VALUE")):
        stream_table.main([*files, place, str(tmp_path)])


def test_a_classifier_is_refused():
    cfg = Config.fromfile(CONFIGS / "pretrain/blockdrop_resnet20_cifar10-small_1-plain.py")
    with pytest.raises(UserError, match=naming("mmpretrain")):
        segmentation(cfg, torch.nn.Identity(), {})
