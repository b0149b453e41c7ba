"""The command ``dynbackbones stream-table`` on a detector."""

import json

import pytest
import torch

from dynbackbones.cli import stream_table
from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision.config import load_config
from dynbackbones.integrations.torchvision.detectors import build_detector
from tests.integrations.torchvision.conftest import CONFIGS, datasets, digits_root  # noqa: F401
from tests.messages import naming


@pytest.fixture
def run(datasets, tmp_path):  # noqa: F811
    config = str(CONFIGS / "retinanet.yaml")
    options = ["OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64"]
    torch.manual_seed(0)
    state = build_detector(load_config(config, options)).state_dict()
    torch.save({"model": state}, tmp_path / "own.pth")

    def call(*flags, more=()):
        given = ["--config-file", config, "--engine", "torchvision", *flags]
        stream_table.main([*given, *options, *more])

    return call


def test_everything_is_in_the_tables_and_in_the_file(run, tmp_path, capsys):
    few = ["--max-age", "2", "--timed", "4", "--shares", "0.5"]
    run("--weights", str(tmp_path / "own.pth"), *few, "-o", str(tmp_path / "out" / "t.json"))
    printed = capsys.readouterr().out
    assert "4 frames of 192 x 256" in printed
    found = json.loads((tmp_path / "out" / "t.json").read_text())
    names = [row["name"] for row in found["rows"]]
    assert names[:2] == ["every frame", "half resolution, every frame"]
    assert names[2:] == [
        *["every 2", "random", "difference", "oracle"],
        *["every 2", "random", "difference", "agreement", "oracle"],
    ]
    assert set(found["by_age"]) == {"copy", "warp"}
    times = found["milliseconds"]
    assert times["every frame"]["ratio"] == 1
    assert 0 < times["every 2, warp"]["mean"] <= times["every 2, warp"]["max"]
    for name in names:
        assert f"| {name} |" in printed


def test_features_move_where_asked(run, tmp_path, capsys):
    few = ["--max-age", "1", "--timed", "4", "--shares", "0.5", "--moves", "features"]
    run("--weights", str(tmp_path / "own.pth"), *few, "-o", str(tmp_path / "t.json"))
    printed = capsys.readouterr().out
    assert "in the heads" in printed and "| every 2 | features |" in printed
    found = json.loads((tmp_path / "t.json").read_text())
    ways = [row["way"] for row in found["rows"]]
    assert ways.count("features") == 4 and set(found["by_age"]) == {"copy", "warp", "features"}
    assert found["milliseconds"]["every 2, features"]["mean"] > 0


def test_wrong_input_ends_in_a_line(run, tmp_path, capsys):
    with pytest.raises(UserError, match=naming(tmp_path / "model_final.pth")):
        run()
    with pytest.raises(UserError, match=naming("DATASETS.TEST")):
        run("--weights", str(tmp_path / "own.pth"), more=["DATASETS.TEST", "()"])
    with pytest.raises(SystemExit):
        run("--shares", "0,1")
    assert "--shares" in capsys.readouterr().err
