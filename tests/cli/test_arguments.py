"""Outputs that cannot be written are refused before a command works for them."""

import os

import pytest

from dynbackbones.cli.arguments import check_output
from dynbackbones.errors import UserError
from tests.messages import naming


def check(path, overwrite=False):
    check_output(path, [".json", ".txt"], overwrite)


def test_new_files_in_new_folders_are_fine(tmp_path):
    check(tmp_path / "a.json")
    check(tmp_path / "new" / "deep" / "a.txt")
    assert not list(tmp_path.iterdir())


def test_what_exists_is_replaced_where_that_is_asked_for(tmp_path):
    (tmp_path / "a.json").touch()
    check(tmp_path / "a.json", overwrite=True)
    with pytest.raises(UserError, match=naming(tmp_path / "a.json", "--overwrite")):
        check(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.jpg", [".json", ".txt"]),
        ("folder.json", ["folder"]),
        ("file/a.json", ["no folder"]),
        ("file/deep/a.json", ["no folder"]),
        (300 * "x" + ".json", ["long"]),
    ],
)
def test_what_can_be_no_file_is_refused(tmp_path, name, words):
    (tmp_path / "file").touch()
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=naming(tmp_path / name, *words)):
        check(tmp_path / name, overwrite=True)


def test_a_folder_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UserError, match=naming(tmp_path / "new" / "a.json", tmp_path)):
        check(tmp_path / "new" / "a.json")
