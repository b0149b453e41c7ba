import errno
import os

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dynbackbones.errors import UserError
from dynbackbones.training.faults import diverged, named_faults, weights_diverged
from tests.messages import names, naming


class Deadly(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        if torch.utils.data.get_worker_info() is not None:
            os._exit(7)
        return index


def test_a_loader_process_that_dies_is_named(tmp_path):
    torch.save({}, tmp_path / "iter_3.pth")
    words = ("DataLoader worker", "NUM_WORKERS", "num_workers", tmp_path / "iter_3.pth")
    with pytest.raises(UserError, match=naming(*words)), named_faults(tmp_path):
        list(DataLoader(Deadly(), num_workers=1))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_named_with_what_is_left(tmp_path, number):
    torch.save({}, tmp_path / "iter_3.pth")
    words = (tmp_path / "log", os.strerror(number), tmp_path / "iter_3.pth")
    with pytest.raises(UserError, match=naming(*words)), named_faults(tmp_path):
        raise OSError(number, os.strerror(number), os.fspath(tmp_path / "log"))


@pytest.mark.parametrize("error", [RuntimeError("a defect"), FileNotFoundError("x.jpg")])
def test_other_errors_keep_their_traceback(tmp_path, error):
    with pytest.raises(type(error)) as raised, named_faults(tmp_path):
        raise error
    assert raised.value is error


def test_divergence_is_named_with_what_is_left(tmp_path):
    error = diverged(tmp_path, 4, {"loss": float("nan"), "loss_cls": 1.5})
    assert names(str(error), "iteration 4", "loss nan", "loss_cls 1.5", "no checkpoint")
    torch.save({}, tmp_path / "iter_3.pth")
    error = weights_diverged(tmp_path, 4, ["a.weight", "b.weight"], 9)
    assert names(str(error), "iteration 4", "2 of 9", "a.weight", tmp_path / "iter_3.pth")
