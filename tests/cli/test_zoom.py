"""The command ``dynbackbones zoom``, from gains to the picture."""

import json

import pytest
import torch

from dynbackbones.cli import zoom
from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision.config import load_config
from dynbackbones.integrations.torchvision.detectors import build_detector
from tests.integrations.torchvision.conftest import CONFIGS, datasets, digits_root  # noqa: F401
from tests.messages import naming


@pytest.fixture
def run(datasets, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    config = str(CONFIGS / "retinanet.yaml")
    options = ["OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu", "MODEL.ZOOM.PATCH", "96"]
    torch.manual_seed(0)
    state = build_detector(load_config(config, options)).state_dict()
    torch.save({"model": state}, tmp_path / "model_final.pth")

    def call(action, *flags, more=()):
        engine = ["--engine", "torchvision"]
        zoom.main([action, "--config-file", config, *engine, *flags, *options, *more])

    return call


def test_from_gains_to_the_picture(run, tmp_path, capsys, monkeypatch):
    # An untrained detector finds nothing, which teaches nothing: gains of another kind.
    place = "dynbackbones.zoom.measured.detection_gains"
    monkeypatch.setattr(place, lambda coarse, fine, grid, *_: torch.rand(len(grid)))
    other = ["DATASETS.TRAIN", "()"]
    run("gains", "--dataset", "digits_train", "--max-images", "5", more=other)
    assert len(list((tmp_path / "zoom" / "gains").glob("*.pth"))) == 5
    run("train")
    small = ["--max-images", "2", "--timed", "1", "--seeds", "0,1", "--rates", "0.5"]
    run("table", *small, "--reinforce")
    rows = json.loads((tmp_path / "zoom" / "table.json").read_text())
    names = [row["name"] for row in rows]
    assert names[:3] == ["one pass, whole image", "coarse pass alone", "every patch"]
    learned = {"learned", "learned by policy gradient"}
    assert set(names[3:]) == {"score", "entropy", "center", "random", *learned, "oracle"}
    timed = {row["name"] for row in rows if row["ms"] is not None}
    assert timed == {*names[:3], "learned"}
    capsys.readouterr()
    run("predict", "--max-images", "2")
    assert (tmp_path / "zoom" / "patches.png").stat().st_size > 10_000
    assert f"policy: {tmp_path / 'zoom' / 'policy.pth'}" in capsys.readouterr().out
    run("predict", "--max-images", "2", more=["MODEL.ZOOM.POLICY", "none"])
    shown = capsys.readouterr().out
    assert "policy: " not in shown and "2 images: 0% of patches" in shown
    with pytest.raises(UserError, match=naming("detections", 7)):
        run("train", more=["TEST.DETECTIONS_PER_IMAGE", "7"])
    with pytest.raises(UserError, match=naming(tmp_path / "model_final.pth", "no zoom policy")):
        run("train", "--output", str(tmp_path / "model_final.pth"))


def test_images_that_the_detector_was_trained_on_are_refused(run):
    with pytest.raises(UserError, match=naming("digits_train", 12)):
        run("gains", "--dataset", "digits_train")


def test_without_gains_the_step_before_is_named(run):
    with pytest.raises(UserError, match="dynbackbones zoom gains"):
        run("train")


def test_your_own_module_is_imported_in_each_action(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_own_module.py").write_text("print('imported', __name__)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="dynbackbones zoom gains"):
        run("train", "--import", "my_own_module")
    assert "imported my_own_module" in capsys.readouterr().out


def test_a_picture_that_is_not_there_is_named(run):
    with pytest.raises(UserError, match=naming("no.jpg")):
        run("predict", "--images", "no.jpg", "--output", "out.png")


def test_overrides_behind_images_are_no_images(run, tmp_path, digits_root):  # noqa: F811
    first, second = sorted(digits_root.rglob("*.png"))[:2]
    # As in run(), config keys come last, here right after the pictures.
    run("predict", "--output", str(tmp_path / "out.png"), "--images", str(first), str(second))
    assert (tmp_path / "out.png").stat().st_size > 10_000
    with pytest.raises(UserError, match=naming("NO.PNG")):
        run("predict", "--images", "NO.PNG")
    with pytest.raises(UserError, match=naming("--images", "OUTPUT_DIR")):
        run("predict", "--images")


def test_outputs_that_cannot_be_written_are_refused_first(run, tmp_path):
    for action, name in (("train", "policy.txt"), ("predict", "picture.jpg"), ("predict", "a/b")):
        with pytest.raises(UserError, match=naming(tmp_path / name, "end")):
            run(action, "--output", str(tmp_path / name))
    with pytest.raises(UserError, match=naming(tmp_path / "model_final.pth/a.png")):
        run("predict", "--output", str(tmp_path / "model_final.pth/a.png"))


@pytest.mark.parametrize("flags", [["--rates", "0,0.5"], ["--timed", "0"], ["--seeds", "a"]])
def test_wrong_flags_end_in_a_line(run, flags, capsys):
    with pytest.raises(SystemExit):
        run("table", *flags)
    assert flags[0] in capsys.readouterr().err
