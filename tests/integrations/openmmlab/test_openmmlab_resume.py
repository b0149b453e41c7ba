import json
import random

import numpy as np
import pytest
import torch

from dynbackbones.integrations.openmmlab import DynamicBackboneHook

# With augmentation, dropout and Gumbel noise there is randomness in workers and in the process.
OPTIONS = {
    "train_cfg__max_iters": 6,
    "train_cfg__val_interval": 3,
    "default_hooks__checkpoint__interval": 3,
    "default_hooks__checkpoint__max_keep_ckpts": 5,
}


@pytest.fixture
def losses(monkeypatch):
    """All losses of every iteration, as they are trained on."""
    seen = {}
    after = DynamicBackboneHook.after_train_iter

    def record(self, runner, batch_idx, data_batch=None, outputs=None):
        seen[runner.iter] = {name: value.item() for name, value in outputs.items()}
        after(self, runner, batch_idx, data_batch, outputs)

    monkeypatch.setattr(DynamicBackboneHook, "after_train_iter", record)
    return seen


def disturb():
    """Whatever state the process is in, the checkpoint decides."""
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_is_the_uninterrupted_one(config_file, tool, tmp_path, losses, workers):
    config = config_file(train_dataloader__num_workers=workers, **OPTIONS)
    tool("train", config, "--work-dir", tmp_path / "whole")
    whole = dict(losses)
    assert sorted(whole) == list(range(6))
    losses.clear()

    disturb()
    start = tmp_path / "whole" / "iter_3.pth"
    tool("train", config, "--work-dir", tmp_path / "resumed", "--resume", start)
    assert losses == {iteration: whole[iteration] for iteration in range(3, 6)}
    # Fully: also weights, momenta and running statistics.
    first, second = (
        torch.load(tmp_path / name / "iter_6.pth", weights_only=True)
        for name in ("whole", "resumed")
    )
    assert first["state_dict"].keys() == second["state_dict"].keys()
    for key, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][key]), key
    for key, state in first["optimizer"]["state"].items():
        momentum = second["optimizer"]["state"][key]["momentum_buffer"]
        assert torch.equal(state["momentum_buffer"], momentum)
    results = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "resumed")
    ]
    assert results[0] == results[1]


def test_a_killed_run_goes_on_where_it_was_moved_to(
    config_file, tool, tmp_path, losses, monkeypatch
):
    config = config_file(**OPTIONS)
    before = DynamicBackboneHook.before_train_iter

    def crash(self, runner, batch_idx, data_batch=None):
        if runner.iter == 5:
            raise KeyboardInterrupt
        before(self, runner, batch_idx, data_batch)

    monkeypatch.setattr(DynamicBackboneHook, "before_train_iter", crash)
    with pytest.raises(KeyboardInterrupt):
        tool("train", config, "--work-dir", tmp_path / "cut")
    monkeypatch.setattr(DynamicBackboneHook, "before_train_iter", before)
    cut = dict(losses)
    losses.clear()

    disturb()
    (tmp_path / "cut").rename(tmp_path / "moved")
    tool("train", config, "--work-dir", tmp_path / "moved", "--resume")
    assert sorted(losses) == [3, 4, 5]
    assert {iteration: losses[iteration] for iteration in (3, 4)} == {3: cut[3], 4: cut[4]}
    # A finished run trains nothing more.
    losses.clear()
    tool("train", config, "--work-dir", tmp_path / "moved", "--resume")
    assert losses == {}
    tool("test", config, tmp_path / "moved" / "iter_6.pth", "--work-dir", tmp_path / "tested")
    tested = json.loads((tmp_path / "tested" / "test_results.json").read_text())
    validated = json.loads((tmp_path / "moved" / "results.json").read_text())
    assert tested == validated
    assert set(tested) >= {"mIoU", "gmacs", "activation_rate", "activation_rate_res4"}


def test_starting_from_weights_is_no_resuming(config_file, tool, tmp_path, losses):
    short = {**OPTIONS, "train_cfg__max_iters": 2, "train_cfg__val_interval": 2}
    tool("train", config_file(**short), "--work-dir", tmp_path / "first")
    first = dict(losses)
    losses.clear()
    path = tmp_path / "first" / "iter_2.pth"
    weights = torch.load(path, weights_only=True)
    torch.save({"model": weights["state_dict"]}, tmp_path / "weights.pth")
    seen = []
    # mmengine's layout of a checkpoint, and this package's.
    for number, start in enumerate((path, tmp_path / "weights.pth")):
        config = config_file(**{**short, "train_cfg__max_iters": 1}, load_from=str(start))
        tool("train", config, "--work-dir", tmp_path / f"next{number}")
        seen.append(dict(losses))
        losses.clear()
    # The same data and seed, so only the weights can make the difference.
    assert seen[0] == seen[1]
    assert sorted(seen[0]) == [0]
    assert seen[0][0] != first[0]
