import pytest

from dynbackbones.errors import UserError
from dynbackbones.training import run_folder
from tests.messages import naming


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
