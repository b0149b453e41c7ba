"""A small model on mmengine's Runner, killed where it hurts."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch.utils.data import Dataset

from dynbackbones.checkpoints.whole_file import is_whole
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.checked_runner import CheckedRunner
from dynbackbones.integrations.mmengine.resume import RandomStateHook
from dynbackbones.integrations.mmengine.training import train
from dynbackbones.integrations.mmengine.whole_checkpoints import WholeFiles
from dynbackbones.training.stopping import Stopped
from tests.messages import names, naming


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, inputs, mode="loss"):
        noisy = self.linear(inputs + torch.rand(2))
        return {"loss": noisy.square().mean()} if mode == "loss" else list(noisy)


class Data(Dataset):
    metainfo = {}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        index = index[0] if isinstance(index, tuple) else index  # of an index and its seed
        return {"inputs": torch.tensor([float(index), 1.0])}


class Count(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [1] * len(data_samples)

    def compute_metrics(self, results):
        return {"count": len(results)}


class At(Hook):
    """Does something after an iteration, before all other hooks or behind them."""

    def __init__(self, iteration, action, priority="VERY_HIGH"):
        self.iteration, self.action, self.priority = iteration, action, priority

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            self.action(runner, outputs)


@pytest.fixture
def run(tmp_path):
    """Trains for 8 iterations, of which checkpoints are written after every second."""
    count = iter(range(99))

    def call(
        folder, *hooks, epochs=0, resume=None, lr=0.01, interval=2, validates=False, **checkpoint
    ):
        torch.manual_seed(0)
        loader = {"dataset": Data(), "batch_size": 2, "collate_fn": {"type": "default_collate"}}
        validation = {
            "val_dataloader": {**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
            "val_cfg": {},
            "val_evaluator": [Count()],
        }
        loop = {"type": "IterBasedTrainLoop", "max_iters": 8}
        sampler = "SeededEpochSampler" if epochs else "SeededSampler"
        options = {"interval": interval, "by_epoch": bool(epochs)} | checkpoint
        runner = CheckedRunner(
            Model(),
            os.fspath(tmp_path / folder),
            train_dataloader={**loader, "sampler": {"type": sampler}},
            train_cfg={"by_epoch": True, "max_epochs": epochs} if epochs else loop,
            optim_wrapper={"optimizer": {"type": "SGD", "lr": lr, "momentum": 0.9}},
            default_hooks={"checkpoint": {"type": "CheckpointHook", **options}},
            custom_hooks=[RandomStateHook(), *hooks],
            randomness={"seed": 1},
            experiment_name=f"{tmp_path.name}-{next(count)}",
            load_from=resume and os.fspath(resume),
            resume=resume is not None,
            **(validation if validates else {}),
        )
        train(runner)
        return tmp_path / folder

    return call


def same(first, second):
    one, other = (torch.load(path, weights_only=True) for path in (first, second))
    tensors = [
        [*content["state_dict"].values()]
        + [state["momentum_buffer"] for state in content["optimizer"]["state"].values()]
        for content in (one, other)
    ]
    return len(tensors[0]) == 4 and all(map(torch.equal, *tensors))


def test_the_only_checkpoint_stands_until_the_next_one_does(run, tmp_path, monkeypatch):
    seen, put = [], WholeFiles.put

    def look(self, content, path):
        folder = Path(path).parent
        seen.append({p.name for p in folder.glob("*.pth") if is_whole(p)})
        put(self, content, path)
        seen.append({p.name for p in folder.glob("*.pth") if is_whole(p)})

    monkeypatch.setattr(WholeFiles, "put", look)
    folder = run("work", max_keep_ckpts=1)
    assert seen[2:4] == [{"iter_2.pth"}, {"iter_2.pth", "iter_4.pth"}]
    assert {path.name for path in folder.glob("*.pth")} == {"iter_8.pth"}


def test_a_disk_that_is_full_leaves_the_checkpoint_before(run, tmp_path, monkeypatch):
    def full(self, content, path):
        if "iter_4" in str(path):
            raise OSError(28, "No space left on device", str(path))
        put(self, content, path)

    put = WholeFiles.put
    monkeypatch.setattr(WholeFiles, "put", full)
    words = ("iter_4.pth", "No space left on device", tmp_path / "work" / "iter_2.pth")
    with pytest.raises(UserError, match=naming(*words)):
        run("work", max_keep_ckpts=1)


def test_a_loss_that_is_no_number_ends_the_run(run, tmp_path):
    with pytest.raises(UserError) as error:
        run("work", lr=1e20)
    assert names(str(error.value), "not finite")
    for path in (tmp_path / "work").glob("*.pth"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values())


def test_weights_that_are_no_numbers_are_not_written(run, tmp_path):
    def poison(runner, outputs):
        runner.model.linear.weight.data.fill_(torch.nan)

    words = ("iteration 4", "1 of 2", "linear.weight", tmp_path / "work" / "iter_2.pth")
    with pytest.raises(UserError, match=naming(*words)):
        run("work", At(4, poison))
    assert {path.name for path in (tmp_path / "work").glob("*.pth")} == {"iter_2.pth"}


# At a checkpoint and between two; within an epoch, at its end, and in the next one.
@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("iteration", [2, 3, 4, 5])
def test_a_signal_leaves_a_checkpoint_that_continues_exactly(run, tmp_path, epochs, iteration):
    options = {"epochs": epochs, "interval": 1 if epochs else 2}

    def stop(runner, outputs):
        os.kill(os.getpid(), signal.SIGTERM)

    whole = run("whole", **options)
    with pytest.raises(Stopped) as stopped:
        run("cut", At(iteration, stop), **options)
    assert stopped.value.code == 143
    last = Path((tmp_path / "cut" / "last_checkpoint").read_text())
    assert names(stopped.value.message, last)
    assert torch.load(last, weights_only=True)["meta"]["iter"] == iteration
    cut = run("cut", resume=last, **options)
    name = "epoch_2.pth" if epochs else "iter_8.pth"
    assert same(whole / name, cut / name)


# Of iteration 4 an epoch is at its end, and the next one has not begun.
@pytest.mark.parametrize("iteration", [2, 4, 6, 8])
def test_checkpoints_within_epochs_continue_exactly(run, tmp_path, iteration):
    options = {"epochs": 2, "by_epoch": False}
    whole = run("whole", **options)
    shutil.copytree(whole, tmp_path / "cut")
    cut = run("cut", resume=tmp_path / "cut" / f"iter_{iteration}.pth", **options)
    assert same(whole / "iter_8.pth", cut / "iter_8.pth")


class Validations(Hook):
    def __init__(self):
        self.metrics = []

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append((runner.iter, metrics["count"]))


@pytest.mark.parametrize("options", [{}, {"epochs": 2, "interval": 1}])
def test_a_run_that_was_killed_in_its_last_validation_validates(run, options):
    whole, again = Validations(), Validations()
    folder = run("work", whole, validates=True, **options)
    last = Path((folder / "last_checkpoint").read_text())
    run("work", again, validates=True, resume=last, **options)
    assert again.metrics == whole.metrics[-1:] == [(8, 8)]
