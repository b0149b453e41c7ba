"""Runs the kernels under Triton's interpreter, which must be on before Triton is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def test_kernels_under_the_interpreter():
    file = Path(__file__).with_name("interpreted.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run(
        command, env=environment, cwd=file.parents[2], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-5000:]
    assert "passed" in run.stdout and "skipped" not in run.stdout
