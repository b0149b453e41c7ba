import importlib.util
import sys
from importlib.machinery import ModuleSpec

import pytest

from dynbackbones.cli import engines, running, train_net
from dynbackbones.errors import UserError
from dynbackbones.training import run_folder


def installed(monkeypatch, *names):
    """Makes only these modules importable, as far as the launcher can tell."""

    def find_spec(name):
        return ModuleSpec(name, None, origin=f"/{name}/__init__.py") if name in names else None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


EMBEDDED = ("torchvision", "mmengine", "cv2", "pycocotools", "tensorboard")


def test_auto_takes_detectron2_where_it_is_installed(monkeypatch):
    installed(monkeypatch, "detectron2", *EMBEDDED)
    assert engines.choose_engine("auto") == ("detectron2", "it is installed")


def test_auto_falls_back_to_torchvision(monkeypatch):
    installed(monkeypatch, *EMBEDDED)
    assert engines.choose_engine("auto") == ("torchvision", "detectron2 is not installed")


def test_a_folder_named_detectron2_is_not_detectron2(monkeypatch, tmp_path):
    (tmp_path / "mistaken_name").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.util.find_spec("mistaken_name") is not None
    assert not engines._installed("mistaken_name")


def test_a_named_engine_that_is_not_installed(monkeypatch):
    installed(monkeypatch, *EMBEDDED)
    with pytest.raises(UserError, match="engine detectron2 needs detectron2: .*--engine torchv"):
        engines.choose_engine("detectron2")


def test_missing_requirements_are_named(monkeypatch):
    installed(monkeypatch, "torchvision", "pycocotools")
    with pytest.raises(UserError, match=r"needs mmengine, cv2, tensorboard: .*\[detection\]"):
        engines.choose_engine("auto")


def test_openmmlab_missing_is_said(monkeypatch):
    installed(monkeypatch, "torchvision", "cv2")
    with pytest.raises(UserError, match=r"openmmlab needs mmengine: .*\[openmmlab\]"):
        engines.check_installed("openmmlab")


def test_choosing_an_engine_imports_nothing(monkeypatch):
    before = set(sys.modules)
    engines.choose_engine("torchvision")
    assert not {"mmengine", "detectron2"} & (set(sys.modules) - before)


@pytest.mark.parametrize("name", ["iter_10.pth", "model_final.pth", "last_checkpoint"])
def test_another_run_is_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("iter_10.pth")
    with pytest.raises(UserError, match="holds checkpoints of another run: .*--resume"):
        run_folder.check_output_folder(tmp_path, resume=False)
    run_folder.check_output_folder(tmp_path, resume=True)


def test_folders_without_checkpoints_are_fine(tmp_path):
    run_folder.check_output_folder(tmp_path / "new", resume=False)
    (tmp_path / "notes.txt").write_text("no checkpoint")
    run_folder.check_output_folder(tmp_path, resume=False)
    assert not (tmp_path / "new").exists()


def test_output_folder_is_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"):
        run_folder.check_output_folder(tmp_path / "out", resume=True)


def test_user_errors_are_one_line_and_exit_code_2(capsys):
    def main():
        raise UserError("folder /x does not exist; make it")

    with pytest.raises(SystemExit) as exit_:
        running.run(main)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: folder /x does not exist; make it\n"


def test_user_errors_of_data_loader_workers_are_one_line(capsys):
    def main():
        raise UserError(
            "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent "
            'call last):\n  File "x.py"\ndynbackbones.errors.UserError: image a.jpg is truncated\n'
        )

    with pytest.raises(SystemExit):
        running.run(main)
    assert capsys.readouterr().err == "error: image a.jpg is truncated\n"


def test_defects_keep_their_traceback():
    def main():
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        running.run(main)


def test_command_line_is_detectron2s():
    args = train_net.parser().parse_args(
        ["--config-file", "a.yaml", "--resume", "--num-gpus", "2", "SEED", "1", "VIS_PERIOD", "0"]
    )
    assert (args.config_file, args.resume, args.eval_only) == ("a.yaml", True, False)
    assert (args.num_gpus, args.num_machines, args.machine_rank) == (2, 1, 0)
    assert args.engine == "auto"
    assert args.opts == ["SEED", "1", "VIS_PERIOD", "0"]


@pytest.mark.parametrize("flags", [["--num-gpus", "0"], ["--engine", "jax"], []])
def test_bad_flags_exit_with_2(flags, capsys):
    given = ["--config-file", "a.yaml", *flags] if flags else []
    with pytest.raises(SystemExit) as exit_:
        train_net.parser().parse_args(given)
    assert exit_.value.code == 2
