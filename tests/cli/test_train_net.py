"""``train-net``: its command line, and as a user starts it, a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dynbackbones.cli import train_net
from dynbackbones.demo import digits
from tests.messages import names

ROOT = Path(__file__).parents[2]
TINY = [
    "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "MODEL.FPN.OUT_CHANNELS", "32",
    "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "20", "SOLVER.CHECKPOINT_PERIOD", "10",
    "DATALOADER.NUM_WORKERS", "0",
]  # fmt: skip


@pytest.fixture
def started(tmp_path):
    digits.write_digits(tmp_path / "datasets", num_train=8, num_val=2)

    def run(*words, config="sar_retinanet_scratch"):
        command = [sys.executable, str(ROOT / "tools/train_net.py"), "--engine", "torchvision"]
        command += ["--config-file", str(ROOT / f"configs/demo/{config}.yaml"), *words]
        environment = {
            **os.environ,
            "DETECTRON2_DATASETS": str(tmp_path / "datasets"),
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )

    return run


def check_quiet(done):
    """What a run prints: a few lines before the first of progress, none wider than a screen."""
    lines = (done.stdout + done.stderr).splitlines()
    assert next(at for at, line in enumerate(lines) if line.startswith("iter ")) < 15
    assert [line for line in lines if len(line) > 160 and "files: " not in line] == []
    assert not re.search("warning|mmengine - ", done.stdout + done.stderr, re.IGNORECASE)


def test_twenty_iterations(started, tmp_path):
    out = tmp_path / "out"
    done = started(*TINY, "OUTPUT_DIR", str(out))
    assert done.returncode == 0, done.stderr
    assert "engine: torchvision (--engine says so)" in done.stdout
    check_quiet(done)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("iter "))
    for word in ("iter 20/20  eta 0:", "loss ", ", activation_rate ", "gmacs ", ")  gmacs"):
        assert word in line
    assert "RetinaNet with SAR-ResNet-18 on digits_train (8 images), torchvision eng" in done.stdout
    assert "decides: regions in 3 stages, target 0.5, ramp over" in done.stdout
    assert "activation_rate_res2" in done.stdout.partition("evaluation\n")[2]
    (log,) = out.glob("*/*.log")
    assert f"results.json, config.yaml, log {log.relative_to(out)}, TensorBoard" in done.stdout
    logged = log.read_text()
    for word in ("Iter(train) [20/20]", "eta:", "loss_activation_rate:", "activation_rate_res2:"):
        assert word in logged
    for word in ("System environment", "Hooks will be executed", "SELECTOR_MARGIN: 2.0"):
        assert word in logged
    assert "AP50" in json.loads((out / "results.json").read_text())["bbox"]
    assert (out / "model_final.pth").exists()

    again = started(*TINY, "OUTPUT_DIR", str(out))
    assert again.returncode == 2
    assert names(again.stderr, f"error: OUTPUT_DIR {out}", "--resume")
    assert again.stderr.count("\n") == 1


def test_verbose_prints_what_the_log_file_has(started, tmp_path):
    words = [*TINY, "SOLVER.MAX_ITER", "2", "OUTPUT_DIR", str(tmp_path / "out")]
    done = started("--verbose", *words)
    assert done.returncode == 0, done.stderr
    for word in ("System environment", "Hooks will be executed", "SELECTOR_MARGIN: 2.0"):
        assert word in done.stdout
    assert "Iter(train) [2/2]" in done.stdout and "argmax_rate_res2:" in done.stdout
    assert "\niter 2/2" not in done.stdout
    assert "RetinaNet with SAR-ResNet-18 on digits_train (8 images)" in done.stdout
    assert "files: " in done.stdout


def test_two_processes_with_a_module_of_the_users(started, tmp_path):
    note = "import os\nprint(os.getpid(), file=open('processes.txt', 'a'))\n"
    (tmp_path / "noted.py").write_text(note)
    out = tmp_path / "out"
    port = 20000 + os.getpid() % 20000
    words = ["--import", "noted", "--num-gpus", "2", "--dist-url", f"tcp://127.0.0.1:{port}", *TINY]
    done = started(*words, "SOLVER.MAX_ITER", "2", "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(out))
    assert done.returncode == 0, done.stderr
    check_quiet(done)
    assert done.stdout.count("RetinaNet with") == done.stdout.count("\niter 2/2") == 1
    assert ", 2 processes\n" in done.stdout
    assert set(json.loads((out / "results.json").read_text())) == {"bbox", "backbone"}
    last = torch.load(out / "iter_2.pth", weights_only=True)
    assert len(last["random_states"]) == 2
    # This process and its two children.
    assert len(set((tmp_path / "processes.txt").read_text().split())) == 3


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
