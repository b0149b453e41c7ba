"""What `make demo` promises, at full length."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = "configs/demo/sar_retinanet.yaml"


def run(tool: str, folder: Path) -> str:
    command = [sys.executable, f"tools/{tool}.py", "--config-file", CONFIG]
    result = subprocess.run(
        [*command, "--engine", "torchvision", "OUTPUT_DIR", str(folder / "output")],
        cwd=ROOT,
        env={**os.environ, "DETECTRON2_DATASETS": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_the_demo_detects_digits_at_its_target_rate(tmp_path):
    run("train_net", tmp_path)
    results = json.loads((tmp_path / "output" / "results.json").read_text())
    assert results["bbox"]["AP50"] >= 50
    assert results["backbone"]["activation_rate"] == pytest.approx(0.5, abs=0.1)
    assert "on objects" in run("visualize", tmp_path)
    assert (tmp_path / "output" / "regions.png").stat().st_size > 10_000
