import importlib.util
import sys
from importlib.machinery import ModuleSpec

import pytest

from dynbackbones.cli import engines
from dynbackbones.errors import UserError
from tests.messages import naming


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
    with pytest.raises(
        UserError, match=naming("engine detectron2", "needs detectron2", "--engine torchvision")
    ):
        engines.choose_engine("detectron2")


def test_missing_requirements_are_named(monkeypatch):
    installed(monkeypatch, "torchvision", "pycocotools")
    with pytest.raises(
        UserError, match=naming("mmengine, cv2, tensorboard", "dynbackbones[detection]")
    ):
        engines.choose_engine("auto")


def test_openmmlab_missing_is_said(monkeypatch):
    installed(monkeypatch, "torchvision", "cv2")
    with pytest.raises(
        UserError, match=naming("engine openmmlab", "mmengine", "dynbackbones[openmmlab]")
    ):
        engines.check_installed("openmmlab")


def test_choosing_an_engine_imports_nothing(monkeypatch):
    before = set(sys.modules)
    engines.choose_engine("torchvision")
    assert not {"mmengine", "detectron2"} & (set(sys.modules) - before)
