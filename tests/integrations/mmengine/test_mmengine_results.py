import json
from types import SimpleNamespace

import pytest

from dynbackbones.integrations.mmengine.results import ResultsHook


@pytest.fixture
def runner(tmp_path):
    lines = []
    return SimpleNamespace(
        work_dir=str(tmp_path), logger=SimpleNamespace(info=lines.append), lines=lines
    )


def read(runner, tmp_path, name):
    return json.loads((tmp_path / name).read_text())


def test_metrics_become_files(runner, tmp_path):
    hook = ResultsHook()
    hook.after_val_epoch(runner, {"mIoU": 1.5})
    hook.after_test_epoch(runner, {"mIoU": float("nan")})
    assert read(runner, tmp_path, "results.json") == {"mIoU": 1.5}
    assert read(runner, tmp_path, "test_results.json") == {"mIoU": None}
    assert runner.lines == []


def test_metrics_arranged_and_shown(runner, tmp_path):
    hook = ResultsHook(lambda metrics: {"bbox": dict(metrics)}, lambda results: f"{results}!")
    hook.after_val_epoch(runner, {"AP": 1.5})
    assert read(runner, tmp_path, "results.json") == {"bbox": {"AP": 1.5}}
    assert runner.lines == ["evaluation\n{'bbox': {'AP': 1.5}}!"]


@pytest.mark.parametrize("metrics", [None, {}])
def test_without_metrics_there_is_no_file(runner, tmp_path, metrics):
    ResultsHook().after_val_epoch(runner, metrics)
    assert list(tmp_path.iterdir()) == []
