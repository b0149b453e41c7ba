"""What ``train-net`` prints of a run with detectron2, as a user starts it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

pytestmark = pytest.mark.detectron2

ROOT = Path(__file__).parents[3]


@pytest.fixture
def printed(a_run, tmp_path):
    """Lines that a run of twenty iterations prints."""

    def call(*flags):
        run = a_run("SOLVER.MAX_ITER", "20")
        words = ["--engine", "detectron2", *flags, "--config-file", run.config_file, *run.opts]
        process = subprocess.run(
            [sys.executable, "-m", "dynbackbones", "train-net", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.returncode == 0, process.stdout[-3000:]
        return process.stdout.splitlines()

    return call


def test_a_run_prints_what_a_person_reads(printed, tmp_path):
    lines = printed()
    first = next(at for at, line in enumerate(lines) if line.startswith("iter 20/20  eta 0:"))
    assert first < 15
    assert lines[first - 2].startswith("RetinaNet with SAR-ResNet-18 on tiny (4 images), detectron")
    assert lines[first - 1].startswith("decides: regions in 3 stages, target 0.5, ramp")
    for word in (" s/iter  loss ", "(cls ", ", activation_rate ", ")  gmacs ", "  lr "):
        assert word in lines[first]
    assert "_res2" not in lines[first]
    assert [line for line in lines if len(line) > 160 and "files: " not in line] == []
    assert not re.search("deprecated|CUDA_HOME|meshgrid", "\n".join(lines))
    table = lines[lines.index("evaluation") :]
    assert any(line.startswith("activation_rate_res2 ") for line in table)
    assert table[-2] == f"files: {tmp_path / 'output'}"
    assert "model_final.pth, results.json, config.yaml, log log.txt, TensorBoard ." in table[-1]
    logged = (tmp_path / "output" / "log.txt").read_text()
    for word in ("Environment info", "Running with full config", "activation_rate_res2: ", "lr: "):
        assert word in logged


def test_verbose_prints_what_the_log_file_has(printed):
    lines = printed("--verbose")
    text = "\n".join(lines)
    for word in ("Environment info", "Running with full config", "activation_rate_res2: ", "lr: "):
        assert word in text
    assert not any(line.startswith("iter 20/20") for line in lines)
