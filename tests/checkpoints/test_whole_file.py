import errno
import os

import pytest
import torch

from dynbackbones.checkpoints.whole_file import (
    is_cut_short,
    is_whole,
    refused,
    remove_partial,
    whole_file,
)
from dynbackbones.errors import UserError
from tests.messages import naming


def test_a_file_has_its_name_once_it_is_whole(tmp_path):
    path = tmp_path / "new" / "file.pth"
    with whole_file(path) as file:
        file.write(b"first")
        assert not path.exists()
    with whole_file(path) as file:
        file.write(b"second")
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["file.pth"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, RuntimeError("of another kind")])
def test_what_stood_there_stays_when_writing_fails(tmp_path, error):
    path = tmp_path / "file.pth"
    path.write_bytes(b"first")
    kind = type(error) if isinstance(error, Exception) else error
    with pytest.raises(kind), whole_file(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file.pth"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_a_full_disk_is_named(tmp_path, number):
    path = tmp_path / "file.pth"
    path.write_bytes(b"first")

    class Full:
        def write(self, data):
            raise OSError(number, os.strerror(number))

        def flush(self):
            pass

    with pytest.raises(UserError, match=naming(path, os.strerror(number))), whole_file(path):
        torch.save({"weight": torch.zeros(9)}, Full())
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file.pth"]


def test_a_folder_where_nobody_may_write():
    with pytest.raises(UserError, match=naming("/proc/1/x", "another folder")):
        raise refused(PermissionError(errno.EACCES, "no"), "/proc/1/x")
    assert refused(OSError(errno.ENOENT, "no"), "x") is None


def test_every_part_of_a_file_is_told_from_the_whole(tmp_path):
    path = tmp_path / "file.pth"
    torch.save({"weight": torch.randn(50)}, path)
    content = path.read_bytes()
    assert is_whole(path) and not is_cut_short(path)
    for length in (*range(0, len(content), 7), len(content) - 1):
        path.write_bytes(content[:length])
        assert not is_whole(path) and is_cut_short(path) == (length != 1), length


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "file.pth"
    weight = torch.arange(50.0)
    torch.save({"weight": weight}, path)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 3] ^= 1
    path.write_bytes(content)
    assert not is_whole(path)
    path.write_text("notes")
    assert not is_whole(path) and not is_cut_short(path)


def test_files_of_old_torch_are_taken_as_they_are(tmp_path):
    torch.save({}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert is_whole(tmp_path / "old.pth")


def test_what_was_half_written_is_removed(tmp_path):
    with whole_file(tmp_path / "file.pth"):
        (partial,) = tmp_path.iterdir()
        left = tmp_path / partial.name.replace("file", "other")
        left.write_bytes(b"half")
    (tmp_path / ".partial-notes").touch()
    remove_partial(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file.pth", ".partial-notes"}


def test_a_path_that_no_file_can_have_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"first")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "link")
    for path in ("file/new.json", "file/deep/new.json", "folder", "link/new.json", 300 * "x"):
        refusal = pytest.raises(UserError, match=naming(tmp_path / path, "name"))
        with refusal, whole_file(tmp_path / path) as file:
            file.write(b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "link"]
