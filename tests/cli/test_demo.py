"""What `make demo` promises, at full length."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = {name: f"configs/demo/{name}.yaml" for name in ("retinanet", "sar_retinanet")}


def run(tool: str, name: str, folder: Path, *options: str) -> str:
    command = [sys.executable, f"tools/{tool}.py", "--config-file", CONFIGS[name]]
    command += ["--engine", "torchvision", *options, "OUTPUT_DIR", str(folder / name)]
    if (tool, name) == ("train_net", "sar_retinanet"):
        command += ["MODEL.WEIGHTS", str(folder / "retinanet" / "model_final.pth")]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "DETECTRON2_DATASETS": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_the_demo_detects_digits_where_it_refines(tmp_path):
    results = {}
    for name in CONFIGS:
        run("train_net", name, tmp_path)
        results[name] = json.loads((tmp_path / name / "results.json").read_text())
    plain, sar = results["retinanet"], results["sar_retinanet"]
    assert sar["bbox"]["AP"] >= max(plain["bbox"]["AP"] - 4, 65)
    assert sar["backbone"]["activation_rate"] == pytest.approx(0.3, abs=0.03)
    assert sar["backbone"]["gmacs"] <= 0.8 * plain["backbone"]["gmacs"]
    shown = run("visualize", "sar_retinanet", tmp_path, "--beside", str(tmp_path / "retinanet"))
    assert "on objects" in shown and shown.splitlines()[-2].startswith("retinanet ")
    coverage = json.loads((tmp_path / "sar_retinanet" / "coverage.json").read_text())
    for stage in ("res2", "res3"):
        assert coverage["stages"][stage]["preference"] > 1.3
    assert (tmp_path / "sar_retinanet" / "regions.png").stat().st_size > 10_000
