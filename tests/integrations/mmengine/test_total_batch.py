from pathlib import Path

import pytest

pytest.importorskip("mmengine")

from mmengine.config import Config

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.total_batch import divide_batch
from tests.messages import naming

SAR = Path(__file__).parents[3] / "configs" / "pretrain" / "sar_resnet50_imagenet.py"


@pytest.mark.parametrize(
    ("launcher", "variable", "processes", "steps", "expected"),
    [("none", "WORLD_SIZE", 4, 1, 256), ("pytorch", "WORLD_SIZE", 4, 1, 64),
     ("slurm", "SLURM_NTASKS", 8, 2, 16)],
)  # fmt: skip
def test_the_batch_is_that_of_all_processes(
    monkeypatch, launcher, variable, processes, steps, expected
):
    monkeypatch.setenv(variable, str(processes))
    cfg = Config.fromfile(SAR)
    cfg.launcher = launcher
    cfg.optim_wrapper.accumulative_counts = steps
    divide_batch(cfg, {})
    assert cfg.train_dataloader.batch_size == expected
    # mmengine scales the learning rate by batch * processes / base_batch_size.
    world = 1 if launcher == "none" else processes
    assert expected * world / cfg.auto_scale_lr.base_batch_size == 1


def test_batches_that_do_not_divide_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    cfg = Config.fromfile(SAR)
    cfg.launcher = "pytorch"
    with pytest.raises(UserError, match=naming("total_batch_size 256", "3 processes")):
        divide_batch(cfg, {})
    with pytest.raises(UserError, match=naming("total_batch_size", "train_dataloader.batch_size")):
        divide_batch(cfg, {"train_dataloader.batch_size": 8})
