import json
import random
import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from dynbackbones.integrations.openmmlab import DCANHook
from dynbackbones.integrations.openmmlab.dcan.generator import GENERATOR
from dynbackbones.integrations.openmmlab.dcan.target_images import TargetImagesHook
from tests.messages import naming

OPTIONS = {
    "train_cfg__max_iters": 4,
    "train_cfg__val_interval": 2,
    "default_hooks__checkpoint__interval": 2,
    "default_hooks__checkpoint__max_keep_ckpts": 5,
}


@pytest.fixture
def losses(monkeypatch):
    """All losses of every iteration, and the target images of it."""
    seen = {}
    after = TargetImagesHook.after_train_iter

    def record(self, runner, batch_idx, data_batch=None, outputs=None):
        seen[runner.iter] = {name: value.item() for name, value in outputs.items()}
        seen[runner.iter]["targets"] = [sample.img_path for sample in self.batch["data_samples"]]
        seen[runner.iter]["pixels"] = sum(int(x.sum()) for x in self.batch["inputs"])
        after(self, runner, batch_idx, data_batch, outputs)

    monkeypatch.setattr(TargetImagesHook, "after_train_iter", record)
    return seen


@pytest.fixture
def config(dcan_config, tmp_path):
    def write(alone=False, **options):
        cfg = dcan_config(**OPTIONS, **options)
        if alone:
            # Nothing of this package but the hook: mmseg's ResNet.
            norm = {"type": "BN"}
            cfg.model.backbone = {"type": "ResNet", "depth": 18, "norm_cfg": norm}
            cfg.custom_hooks = cfg.custom_hooks[-1:]
        cfg.dump(tmp_path / "config.py")
        return tmp_path / "config.py"

    return write


def disturb():
    """Whatever state the process is in, the checkpoint decides."""
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)


@pytest.mark.parametrize("alone", [False, True])
def test_a_killed_run_goes_on_as_the_uninterrupted_one(
    config, tool, tmp_path, losses, monkeypatch, alone
):
    path = config(alone, num_workers=int(alone))
    tool("train", path, "--work-dir", tmp_path / "whole")
    whole = dict(losses)
    losses.clear()

    before = DCANHook.before_train_iter

    def crash(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            raise KeyboardInterrupt
        before(self, runner, batch_idx, data_batch)

    with monkeypatch.context() as patch:
        patch.setattr(DCANHook, "before_train_iter", crash)
        with pytest.raises(KeyboardInterrupt):
            tool("train", path, "--work-dir", tmp_path / "cut")
    losses.clear()
    disturb()
    tool("train", path, "--work-dir", tmp_path / "cut", "--resume")
    assert losses == {iteration: whole[iteration] for iteration in (2, 3)}
    first, second = (
        torch.load(tmp_path / name / "iter_4.pth", weights_only=True) for name in ("whole", "cut")
    )
    for part in ("state_dict", GENERATOR):
        assert first[part].keys() == second[part].keys()
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), key
    # Momenta of the generator, too.
    assert first["optimizer"]["state"].keys() == second["optimizer"]["state"].keys()
    for key, state in first["optimizer"]["state"].items():
        momentum = second["optimizer"]["state"][key]["momentum_buffer"]
        assert torch.equal(state["momentum_buffer"], momentum)
    results = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "cut")
    ]
    assert results[0] == results[1]


def test_resuming_a_run_without_the_hook(dcan_config, config, tool, tmp_path):
    dcan_config(hook=False, **OPTIONS).dump(tmp_path / "plain.py")
    tool("train", tmp_path / "plain.py", "--work-dir", tmp_path / "plain")
    with pytest.raises(ValueError, match=naming("DCAN", "generator", "load_from")):
        start = tmp_path / "plain" / "iter_2.pth"
        tool("train", config(), "--work-dir", tmp_path / "work", "--resume", start)


SCRIPT = """
import sys, torch
from mmengine.dist import all_gather_object
from dynbackbones.integrations.openmmlab.dcan.generator import GENERATOR
from dynbackbones.integrations.openmmlab.dcan.target_images import TargetImagesHook
from dynbackbones.cli.train import main
torch.cuda.set_device = lambda device: None  # mmengine does not look whether there is a GPU

after = TargetImagesHook.after_train_iter

def look(self, runner, *args, **kwargs):
    paths = [sample.img_path for sample in self.batch["data_samples"]]
    after(self, runner, *args, **kwargs)
    module = getattr(runner.model.module, GENERATOR)
    state = {k: v.clone() for k, v in module.decoder.state_dict().items()}
    gathered = all_gather_object((state, paths, type(runner.model).__name__))
    if runner.rank == 0:
        torch.save(gathered, f"{runner.work_dir}/seen{runner.iter}.pth")

TargetImagesHook.after_train_iter = look
main(sys.argv[1:])
"""


@pytest.fixture
def train_in_two_processes(dcan_config, two_processes, tmp_path):
    """Trains in two processes; returns what they had in each iteration."""
    wrapper = {"type": "MMDistributedDataParallel", "device_ids": None, "broadcast_buffers": False}
    options = {**OPTIONS, "model_wrapper_cfg__type": "x", "model__backbone__norm_eval": True}
    cfg = dcan_config(num_targets=2, randomness__diff_rank_seed=True, **options)
    cfg.model_wrapper_cfg = wrapper
    cfg.dump(tmp_path / "config.py")
    (tmp_path / "script.py").write_text(SCRIPT)

    def train(work_dir, *arguments):
        two_processes("script.py", "config.py", "--work-dir", work_dir, *arguments)
        files = sorted((tmp_path / work_dir).glob("seen*.pth"))
        return [torch.load(file, weights_only=True) for file in files]

    return train


def test_two_processes_have_one_generator_and_resume(train_in_two_processes, tmp_path):
    steps = train_in_two_processes("whole")
    assert len(steps) == 4
    for (first, paths, kind), (second, other_paths, _) in steps:
        assert kind == "MMDistributedDataParallel"
        assert all(torch.equal(value, second[key]) for key, value in first.items())
        # Each process has target images of its own, two for each of two source images, and all
        # processes share one order: together they go four times through the two images there are.
        assert len(paths) == len(other_paths) == 4
        assert sorted(Counter(paths + other_paths).values()) == [4, 4]
    start, end = steps[0][0][0], steps[1][0][0]
    assert any(not torch.equal(value, end[key]) for key, value in start.items())

    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut" / "iter_4.pth").unlink()
    (tmp_path / "cut" / "last_checkpoint").write_text("iter_2.pth")
    train_in_two_processes("cut", "--resume")
    whole, cut = (
        torch.load(tmp_path / name / "iter_4.pth", weights_only=True) for name in ("whole", "cut")
    )
    for part in ("state_dict", GENERATOR):
        for key, value in whole[part].items():
            assert torch.equal(value, cut[part][key]), key
