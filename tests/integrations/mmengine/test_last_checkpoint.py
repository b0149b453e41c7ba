import pytest
import torch

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.last_checkpoint import last_checkpoint, load_resumable
from tests.messages import naming

KEYS = ("meta", "state_dict", "optimizer", "message_hub")


def test_no_run_yet(tmp_path):
    assert last_checkpoint(tmp_path, "") is None
    assert last_checkpoint(tmp_path / "absent", "") is None


@pytest.mark.parametrize("before", ["", "/somewhere/else/", "../"])
def test_the_last_one_is_found_wherever_the_folder_was(tmp_path, before):
    for name in ("iter_1.pth", "iter_2.pth"):
        torch.save({}, tmp_path / name)
    (tmp_path / "last_checkpoint").write_text(f"{before}iter_1.pth\n")
    assert last_checkpoint(tmp_path, "") == str(tmp_path / "iter_1.pth")


@pytest.mark.parametrize("pointer", [None, "", "iter_2.pth", "."])
def test_checkpoints_of_which_none_is_said_to_be_the_last(tmp_path, pointer):
    (tmp_path / "iter_1.pth").write_text("precious")
    if pointer is not None:
        (tmp_path / "last_checkpoint").write_text(pointer)
    with pytest.raises(UserError, match=naming(tmp_path, "last_checkpoint", "do this")):
        last_checkpoint(tmp_path, "do this")


def test_what_a_run_cannot_go_on_without(tmp_path):
    path = tmp_path / "iter_1.pth"
    torch.save(dict.fromkeys(KEYS), path)
    assert load_resumable(path, "").keys() == set(KEYS)
    with pytest.raises(UserError, match=naming(path, "no param_schedulers", "do this")):
        load_resumable(path, "do this", also_needed=["param_schedulers"])
    for key in KEYS:
        torch.save(dict.fromkeys(other for other in KEYS if other != key), path)
        with pytest.raises(UserError, match=naming(path, f"no {key}", "do this")):
            load_resumable(path, "do this")
