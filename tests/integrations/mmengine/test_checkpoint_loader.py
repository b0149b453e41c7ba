import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.checkpoint_loader import (
    PlainCheckpointHook,
    load_from_file,
    read_safely,
)
from dynbackbones.integrations.mmengine.last_checkpoint import load_resumable
from tests.messages import naming


@pytest.fixture
def registered():
    """mmengine's loaders as the tools leave them, for one test."""
    before = CheckpointLoader._schemes
    CheckpointLoader._schemes = dict(before)
    read_safely()
    yield
    CheckpointLoader._schemes = before


def stock(**changes):
    """A checkpoint as a run of mmengine's writes it."""
    history = HistoryBuffer()
    history.update(0.5)
    hub = {
        "log_scalars": OrderedDict({"train/loss": history}),
        "runtime_info": OrderedDict(iter=2, best_score=np.float64(0.5), eta=np.float64(3)),
        "resumed_keys": OrderedDict({"train/loss": True, "iter": True}),
    }
    return {
        "meta": {"iter": 2, "dataset_meta": {"palette": np.zeros((2, 3), np.uint8)}},
        "state_dict": nn.Sequential(nn.BatchNorm2d(2)).state_dict(),
        "message_hub": hub,
        "optimizer": {"param_groups": [{"lr": 0.1}], "state": {}},
        **changes,
    }


def test_a_stock_checkpoint_is_read_without_its_log_history(tmp_path, registered):
    content = stock()
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pth", weights_only=True)
    loaded = CheckpointLoader.load_checkpoint(os.fspath(tmp_path / "a.pth"), "cpu")
    assert loaded["state_dict"].keys() == content["state_dict"].keys()
    assert loaded["state_dict"]._metadata == content["state_dict"]._metadata
    assert loaded["message_hub"]["log_scalars"] == {}
    assert loaded["message_hub"]["runtime_info"] == {"best_score": 0.5}
    assert loaded["optimizer"] == content["optimizer"]
    assert load_resumable(tmp_path / "a.pth", "remedy").keys() == content.keys()


def test_nothing_runs_where_mmengine_alone_would_run_it(tmp_path, registered):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (os.fspath(tmp_path / "run"),)

    torch.save(stock(extra=Malicious()), tmp_path / "a.pth")
    with pytest.raises(UserError, match=naming("a.pth", ".mkdir")):
        CheckpointLoader.load_checkpoint(os.fspath(tmp_path / "a.pth"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["model", "net", None])
def test_weights_of_any_layout_are_where_mmengine_looks(tmp_path, key):
    state = {f"module._orig_mod.{k}": v for k, v in nn.Linear(1, 1).state_dict().items()}
    torch.save({key: state, "acc": 0.5} if key else state, tmp_path / "a.pth")
    loaded = load_from_file(os.fspath(tmp_path / "a.pth"), "cpu")
    assert loaded["state_dict"].keys() == {"weight", "bias"}
    assert "weight" not in loaded


def test_a_url_and_a_file_without_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", os.fspath(tmp_path / "cache"))
    checkpoints.save(tmp_path / "a.pth", nn.Linear(1, 1).state_dict(), {})
    assert "state_dict" in load_from_file((tmp_path / "a.pth").as_uri())
    torch.save({"meta": {"iter": 2}}, tmp_path / "meta.pth")
    assert load_from_file(os.fspath(tmp_path / "meta.pth")) == {"meta": {"iter": 2}}


def test_what_a_run_writes_is_read_by_anybody(tmp_path):
    content = stock(meta={"iter": 2})
    PlainCheckpointHook().before_save_checkpoint(None, content)
    torch.save(content, tmp_path / "a.pth")
    assert torch.load(tmp_path / "a.pth", weights_only=True)["meta"] == {"iter": 2}


def test_a_run_with_unknown_objects_in_its_states_is_not_continued(tmp_path):
    torch.save(stock(optimizer={"state": {0: nn.ReLU()}}), tmp_path / "a.pth")
    with pytest.raises(UserError, match=naming("a.pth", "optimizer", "ReLU", "remedy")):
        load_resumable(tmp_path / "a.pth", "remedy")
