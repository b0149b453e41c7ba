"""A runner takes weights and counters from a checkpoint, and runs nothing of it."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from dynbackbones.integrations.mmengine.checked_runner import CheckedRunner


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode="loss"):
        return {"loss": (self.weight * inputs).sum()}


def resume(kind, file, folder):
    runner = kind(
        Line(), str(folder), train_dataloader=DataLoader([{"inputs": torch.ones(1)}]),
        train_cfg={"by_epoch": True, "max_epochs": 2},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        default_scope="mmengine", load_from=str(file), resume=True,
        experiment_name=f"{kind.__name__}",
    )  # fmt: skip
    runner.train()
    return runner


@pytest.mark.parametrize(("kind", "runs"), [(Runner, True), (CheckedRunner, False)])
def test_a_config_in_a_checkpoint_is_not_run(tmp_path, kind, runs):
    code = f"open({str(tmp_path / 'was here')!r}, 'w')"
    meta = {"epoch": 1, "iter": 1, "config": code, "seed": None}
    content = {"meta": meta, "state_dict": Line().state_dict(), "message_hub": {
        "log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}}  # fmt: skip
    torch.save(content, tmp_path / "a.pth")
    runner = resume(kind, tmp_path / "a.pth", tmp_path / "work")
    assert runner.iter == 2
    assert (tmp_path / "was here").exists() == runs
