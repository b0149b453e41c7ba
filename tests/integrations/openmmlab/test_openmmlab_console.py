"""What ``train`` and ``test`` print of a run of mmseg, as a user starts them."""

import os
import re
import subprocess
import sys

import pytest

from tests.integrations.openmmlab.conftest import CONFIGS

pytest.importorskip("mmseg")


@pytest.fixture
def printed(tmp_path):
    """Lines that a command prints."""

    def call(*words):
        process = subprocess.run(
            [sys.executable, "-m", "dynbackbones", *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(CONFIGS.parent), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.returncode == 0, process.stdout[-3000:]
        return process.stdout.splitlines()

    return call


def test_a_training_and_a_test(config_file, printed, tmp_path):
    config = config_file("demo/sar_semantic_fpn.py")
    lines = printed("train", config)
    first = next(at for at, line in enumerate(lines) if line.startswith("iter 1/2  eta "))
    assert first < 15
    assert lines[first - 2].startswith("EncoderDecoder (FPNHead) with SAR-ResNet-18 on DigitsData")
    assert lines[first - 1].startswith("decides: regions in 3 stages, target 0.5, ramp")
    assert [line for line in lines if len(line) > 160 and "files: " not in line] == []
    assert not re.search("warning|OneDL|_res2", "\n".join(lines[: first + 2]), re.IGNORECASE)
    for word in ("loss ", "decode.ce ", ", activation_rate ", ")  gmacs ", "  activation_rate "):
        assert word in lines[first]
    assert any(line.startswith("|    zero    |") for line in lines)
    assert any(line.startswith("mIoU ") for line in lines)
    (log,) = (tmp_path / "work").glob("*/*.log")
    logged = log.read_text()
    for word in ("System environment", "Hooks will be", "selector_margin=2", "argmax_rate_res4:"):
        assert word in logged

    lines = printed("test", config, tmp_path / "work" / "iter_2.pth")
    assert any(line.startswith("evaluates EncoderDecoder (FPNHead) with SAR") for line in lines)
    assert any(line.startswith("gmacs ") for line in lines)
    assert len(lines) < 30


def test_verbose_prints_what_the_log_file_has(config_file, printed):
    lines = printed("train", config_file("demo/sar_semantic_fpn.py"), "--verbose")
    text = "\n".join(lines)
    for word in ("System environment", "Hooks will be", "selector_margin=2", "argmax_rate_res4:"):
        assert word in text
    assert not any(line.startswith("iter 1/2") for line in lines)
