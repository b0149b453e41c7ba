"""``dynbackbones compare`` with what a user's own module registers, training for real."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

MODULE = """
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS


@DATASETS.register_module()
class Ones(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"inputs": torch.ones(1)}


@MODELS.register_module()
class Scale(BaseModel):
    def __init__(self, start=1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(start))

    def forward(self, inputs, mode):
        outputs = self.scale * torch.stack(inputs)
        return {"loss": outputs.mean()} if mode == "loss" else [outputs.mean().item()]


@METRICS.register_module()
class Mean(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {"mean": sum(results) / len(results)}
"""
CONFIG = """
loader = dict(
    batch_size=2, dataset=dict(type="Ones"), sampler=dict(type="DefaultSampler", shuffle=False)
)
model = dict(type="Scale")
train_dataloader, val_dataloader = loader, loader
train_cfg = dict(by_epoch=False, max_iters=2, val_interval=2)
val_cfg, val_evaluator = dict(), dict(type="Mean")
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.5))
default_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=2, by_epoch=False))
randomness = dict(seed=0)
variants = {"one": {}, "three": {"model.start": 3.0}}
variant_metrics = ["mean"]
"""


def test_a_users_module_reaches_every_training(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "config.py").write_text(CONFIG)
    command = [sys.executable, "-m", "dynbackbones", "compare", "config.py", "--seeds", "0"]
    result = subprocess.run(
        [*command, "--work-dir", "cells", "--import", "mine"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "| three | 2.0000 | 2.00 | 1 |" in result.stdout
    table = json.loads((tmp_path / "cells" / "table.json").read_text())
    # Two steps of 0.5 from where the variant starts.
    assert table["results"]["one"]["0"]["metrics"] == {"mean": 0.0}
