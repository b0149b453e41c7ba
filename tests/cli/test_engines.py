import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest
import torch

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


@pytest.fixture
def adapters(monkeypatch):
    """Both engines, as far as the launcher can tell; what each was set up with."""
    calls = []

    class Adapter:
        def __init__(self, name):
            self.name = name

        def setup(self, config_file, opts):
            calls.append((self.name, config_file, opts))
            return SimpleNamespace(engine=self.name)

    installed(monkeypatch, "detectron2", *EMBEDDED)
    monkeypatch.setattr(engines, "import_engine", Adapter)
    return calls


@pytest.mark.parametrize(
    ("content", "engine"),
    [
        ({"meta": {"engine": "torchvision"}}, "torchvision"),
        ({"meta": {"engine": "detectron2"}}, "detectron2"),
        ({"state_dict": {"detector.backbone.body.conv1.weight": torch.ones(1)}}, "torchvision"),
        ({"model": {"backbone.bottom_up.net.conv1.weight": torch.ones(1)}}, "detectron2"),
        ({"model": {"conv1.weight": torch.ones(1)}}, "detectron2"),
    ],
)
def test_auto_follows_the_weights(adapters, file, capsys, content, engine):
    path = file(content)
    chosen, adapter, cfg = engines.open_engine("auto", "a.yaml", ["SEED", "1"], lambda cfg: path)
    assert chosen == adapter.name == cfg.engine == engine
    assert adapters[-1] == (engine, "a.yaml", ["SEED", "1"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"engine: {engine} (") and (path in last) == (engine == "torchvision")


def test_the_weights_are_not_looked_at_where_the_engine_is_said_or_there_are_none(adapters, file):
    path = file({"meta": {"engine": "torchvision"}})
    assert engines.open_engine("detectron2", "a.yaml", [], lambda cfg: path)[0] == "detectron2"
    for none in (None, "", "detectron2://a.pkl", f"{path}.missing"):
        chosen, *_ = engines.open_engine("auto", "a.yaml", [], lambda cfg, none=none: none)
        assert chosen == "detectron2"


def test_an_engine_that_is_not_installed_is_not_followed(adapters, file, monkeypatch):
    installed(monkeypatch, *EMBEDDED)
    path = file({"meta": {"engine": "detectron2"}})
    assert engines.open_engine("auto", "a.yaml", [], lambda cfg: path)[0] == "torchvision"
