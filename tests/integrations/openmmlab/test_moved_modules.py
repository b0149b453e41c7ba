import json
import sys
import warnings

import pytest
from mmengine.registry import DATASETS, METRICS, MODELS

from dynbackbones.integrations.openmmlab.checks import load_config

ADAPTER = "dynbackbones.integrations.openmmlab"


@pytest.fixture
def told(monkeypatch):
    """Calls something as in a process of its own; returns what it warned of moved modules."""

    def call(function, *arguments):
        for name in [name for name in sys.modules if name.startswith("dynbackbones.")]:
            if sys.modules[name].__name__ != name:
                monkeypatch.delitem(sys.modules, name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function(*arguments)
        return [str(w.message) for w in caught if issubclass(w.category, FutureWarning)]

    return call


def test_a_config_that_an_earlier_run_dumped_resumes_and_tests(tiny_config, tool, told, tmp_path):
    cfg = tiny_config("demo/sar_semantic_fpn.py")
    cfg.custom_imports.imports = [ADAPTER, f"{ADAPTER}.digits"]
    cfg.default_hooks.checkpoint.interval = 1
    cfg.dump(tmp_path / "config.py")
    warning = f"{ADAPTER}.digits is now {ADAPTER}.datasets.digits; change the import"
    work = tmp_path / "work"
    assert told(tool, "train", tmp_path / "config.py") == [warning]
    # What mmengine dumps of a run.
    dumped = work / "config.py"
    assert f"{ADAPTER}.digits" in dumped.read_text()
    (work / "iter_2.pth").unlink()
    (work / "last_checkpoint").write_text("iter_1.pth")
    trained = (work / "results.json").read_text()
    (work / "results.json").unlink()
    assert told(tool, "train", dumped, "--resume") == [warning]
    assert (work / "results.json").read_text() == trained
    assert told(tool, "test", dumped, work / "iter_2.pth") == [warning]
    assert json.loads((work / "test_results.json").read_text()) == json.loads(trained)


def test_a_package_that_was_a_module(told, tmp_path):
    pytest.importorskip("mmpretrain")
    imports = [f"{ADAPTER}.classification", f"{ADAPTER}.classification_metrics"]
    (tmp_path / "config.py").write_text(
        f"custom_imports = dict(imports={imports})\n"
        "model = dict(type='BlockDropClassifier')\n"
        "data = dict(type='PackedImages')\n"
        "metric = dict(type='BlockUsage')\n"
    )
    assert [
        text.split(" is now ")[0] for text in told(load_config, tmp_path / "config.py")
    ] == imports
    assert MODELS.get("BlockDropClassifier") and DATASETS.get("PackedImages")
    assert METRICS.get("BlockUsage")
