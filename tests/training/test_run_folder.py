import os

import pytest
import torch

from dynbackbones.errors import UserError
from dynbackbones.training import run_folder
from tests.messages import names, naming


@pytest.mark.parametrize("name", ["iter_10.pth", "model_final.pth", "last_checkpoint"])
def test_another_run_is_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("iter_10.pth")
    with pytest.raises(UserError, match=naming(tmp_path, "another run", "--resume")):
        run_folder.check_output_folder(tmp_path, resume=False)
    run_folder.check_output_folder(tmp_path, resume=True)


def test_folders_without_checkpoints_are_fine(tmp_path):
    run_folder.check_output_folder(tmp_path / "new", resume=False)
    (tmp_path / "notes.txt").write_text("no checkpoint")
    run_folder.check_output_folder(tmp_path, resume=False)
    assert not (tmp_path / "new").exists()


def test_output_folder_is_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match=naming(tmp_path / "out", "file")):
        run_folder.check_output_folder(tmp_path / "out", resume=True)


def save(folder, *names):
    """Whole checkpoints, each newer than the one before."""
    for number, name in enumerate(names):
        torch.save({"meta": name}, folder / name)
        os.utime(folder / name, (number, number))


def test_no_run_yet(tmp_path):
    assert run_folder.checkpoint_to_resume(tmp_path, "") == (None, "")
    assert run_folder.newest_checkpoint(tmp_path / "absent") is None


def test_the_newest_whole_checkpoint_is_the_one_to_go_on_from(tmp_path):
    save(tmp_path, "iter_9.pth", "iter_10.pth", "best_mIoU_iter_10.pth", "model_final.pth")
    for pointer in (None, "", "iter_12.pth", "iter_10.pth", "/elsewhere/iter_10.pth"):
        if pointer is not None:
            (tmp_path / "last_checkpoint").write_text(pointer)
        assert run_folder.checkpoint_to_resume(tmp_path, "") == (tmp_path / "iter_10.pth", "")
    (tmp_path / "last_checkpoint").write_text("iter_9.pth")
    assert run_folder.newest_checkpoint(tmp_path) == tmp_path / "iter_9.pth"


def test_damaged_checkpoints_are_passed_over_with_a_word(tmp_path):
    save(tmp_path, "epoch_1.pth", "epoch_2.pth", "interrupted.pth")
    (tmp_path / "last_checkpoint").write_text("interrupted.pth")
    for name in ("interrupted.pth", "epoch_2.pth"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    path, word = run_folder.checkpoint_to_resume(tmp_path, "")
    assert path == tmp_path / "epoch_1.pth"
    assert names(word, "interrupted.pth", "epoch_2.pth", path)


@pytest.mark.parametrize("head", [b"", b"PK\x03\x04 and no more"])
def test_where_no_checkpoint_was_written_to_its_end_a_run_starts_anew(tmp_path, head):
    (tmp_path / "iter_1.pth").write_bytes(head)
    path, word = run_folder.checkpoint_to_resume(tmp_path, "")
    assert path is None
    assert names(word, "iter_1.pth", "anew")


def test_files_that_no_run_goes_on_from_are_not_trained_over(tmp_path):
    save(tmp_path, "mine.pth")
    with pytest.raises(UserError, match=naming(tmp_path, "last_checkpoint", "do this")):
        run_folder.checkpoint_to_resume(tmp_path, "do this")
