"""``dynbackbones compare`` with detectors: training for real, killed and continued."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("mmengine")
pytest.importorskip("pycocotools")

from dynbackbones.demo import digits
from tests.messages import names

ROOT = Path(__file__).parents[2]
CONFIG = """
detector = "configs/demo/sar_retinanet.yaml"
variants = {
    "longer": {"_start_": "SAR", "_rates_": [0.4], "SOLVER.BASE_LR": 0.01},
    "SAR": {"SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.MAX_ITER": 10},
    "other": {"MODEL.SAR.GROUPS": 1, "_run_": False},
}
variant_metrics = ["bbox/AP", "gmacs", "activation_rate", "object_ratio_res2", "milliseconds"]
"""
TINY = {
    "INPUT.MIN_SIZE_TRAIN": [64],
    "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.SAR.SELECTOR_MARGIN": 0.0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "DATALOADER.NUM_WORKERS": 0,
}


@pytest.fixture
def started(tmp_path):
    """Starts the command in a folder that has the config and its data."""
    digits.write_digits(tmp_path / "datasets", num_train=4, num_val=2)
    (tmp_path / "config.py").write_text(CONFIG)
    options = [f"{key}={value}".replace(" ", "") for key, value in TINY.items()]
    command = [sys.executable, "-m", "dynbackbones", "compare", "config.py", "--seeds", "0"]
    command += ["--engine", "torchvision", "--jobs", "2", "--work-dir", "w"]

    def start(*words):
        return subprocess.Popen(
            [*command, *words, "--cfg-options", *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def processes_in(folder):
    """Those whose current folder it is."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            found += [link.parent.name] if link.readlink() == folder else []
    return found


def wait_for(condition, what, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="asks /proc for processes")
def test_a_killed_comparison_goes_on_to_its_table(started, tmp_path):
    killed, cell = started(), tmp_path / "w/seed0/SAR"
    wait_for(lambda: (cell / "last_checkpoint").exists(), "no checkpoint")
    killed.kill()
    # The training ends with it, in the middle.
    wait_for(lambda: not processes_in(tmp_path), "a training outlived the command", 20)
    assert not (cell / "results.json").exists()

    output, _ = (again := started()).communicate(timeout=500)
    assert again.returncode == 0, output
    assert "cell 1 of 3: SAR, seed 0\n" in output
    assert "cell 3 of 3: longer, rate 0.4, seed 0\n" in output and "; all done\n" in output
    log = (cell / "output.txt").read_text()
    assert log.count("RetinaNet with SAR-ResNet-18") == 2
    assert "iter 1/" not in log.rpartition("RetinaNet with SAR-ResNet-18")[2]

    results = json.loads((tmp_path / "w/table.json").read_text())["results"]
    assert list(results) == ["longer", "longer, rate 0.4", "SAR", "other"]
    longer, calibrated = results["longer"]["0"], results["longer, rate 0.4"]["0"]
    for line in (longer, calibrated, results["SAR"]["0"]):
        assert {"bbox/AP", "gmacs", "object_ratio_res2"} <= line["metrics"].keys()
        assert line["metrics"]["milliseconds"] > 0 and line["cpu_seconds"] > 0
    rates = [line["metrics"]["activation_rate"] for line in (longer, calibrated)]
    assert abs(rates[1] - 0.4) < 0.2 and rates[1] != rates[0]
    lines = (tmp_path / "w/table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == list(results)[:3]
    assert lines[-1].endswith(": other.")

    config = (tmp_path / "w/seed0/longer/config.yaml").read_text()
    assert "WEIGHTS: w/seed0/SAR/model_final.pth\n" in config
    # Nothing is left to do, nor measured anew.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "w/seed0").rglob("*.pth")}
    measured = (tmp_path / "w/latency/seconds.json").stat().st_mtime_ns
    output, _ = started().communicate(timeout=100)
    assert "cell 1" not in output and "| longer, rate 0.4 |" in output
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "w/seed0").rglob("*.pth")}
    assert measured == (tmp_path / "w/latency/seconds.json").stat().st_mtime_ns


def test_a_row_that_the_engine_refuses_is_named_before_anything_is_trained(started, tmp_path):
    config = (tmp_path / "config.py").read_text()
    (tmp_path / "config.py").write_text(config.replace("BASE_LR", "BASE_LT"))
    output, _ = (done := started()).communicate(timeout=100)
    assert done.returncode == 2
    assert names(output, "SOLVER.BASE_LT", "SOLVER.BASE_LR")
    assert not (tmp_path / "w").exists()
