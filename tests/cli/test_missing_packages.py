"""A command that needs an optional package which is missing says so in one line."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

from tests import environments
from tests.messages import names

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo"
TRAIN = ("train", DEMO / "sar_semantic_fpn.py", "--work-dir", "run")
DETECT = ("train-net", "--config-file", DEMO / "retinanet.yaml", "--engine", "torchvision")
DETECT = (*DETECT, "OUTPUT_DIR", "run", "MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "1")
CONVERT = ("convert", "in.safetensors", "--output", "out.pth", "--to", "torchvision")
EXPORT = ("export", "--backbone", "resnet18", "--output", "out.onnx")
OPENMMLAB = ("mmengine", "mmcv", "mmseg", "mmpretrain")


@pytest.mark.parametrize(
    "missing, command, named",
    [
        pytest.param(OPENMMLAB, TRAIN, ("mmengine", "[openmmlab]"), id="openmmlab"),
        pytest.param(["pycocotools"], DETECT, ("pycocotools", "[detection]"), id="pycocotools"),
        pytest.param(["safetensors"], CONVERT, ("safetensors",), id="safetensors"),
        pytest.param(["sklearn"], DETECT, ("sklearn", "[demo]"), id="sklearn"),
        pytest.param(["matplotlib"], DETECT, ("matplotlib", "[demo]"), id="matplotlib"),
        pytest.param(["PIL"], TRAIN, ("pillow", "[detection]"), id="PIL"),
        pytest.param(["tensorboard"], TRAIN, ("tensorboard", "[detection]"), id="tensorboard"),
        pytest.param(["onnx"], EXPORT, ("onnx", "[export]"), id="onnx"),
        pytest.param(["onnxruntime"], EXPORT, ("onnxruntime", "[export]"), id="onnxruntime"),
        pytest.param(["cv2"], TRAIN, ("cv2", "[openmmlab]"), id="cv2"),
    ],
)
def test_one_line_names_it(missing, command, named, tmp_path):
    python = environments.without(missing, tmp_path / "without")
    torch.save({}, tmp_path / "in.safetensors")
    run = subprocess.run(
        [python, "-m", "dynbackbones", *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    said = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == 2 and len(said) == 1, run.stderr
    assert names(said[0], *named) and "Traceback" not in run.stderr
