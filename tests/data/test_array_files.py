import errno
import io
import os
import pickle
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbackbones.data.array_files import read_arrays
from dynbackbones.errors import UserError
from tests.fuzzing import fuzz
from tests.messages import names, naming

ARRAYS = {
    "labels": np.array([2, 0, 1], np.uint8),
    "images": np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3),
    "class_names": np.array(["a", "bee", ""]),
}


def same(found):
    return found.keys() == ARRAYS.keys() and all(
        found[name].dtype == values.dtype and np.array_equal(found[name], values)
        for name, values in ARRAYS.items()
    )


@pytest.fixture(params=[np.savez, np.savez_compressed])
def path(request, tmp_path):
    request.param(tmp_path / "some.npz", **ARRAYS)
    return tmp_path / "some.npz"


def test_what_numpy_wrote_is_read(path):
    assert same(read_arrays(path, "image file"))


@fuzz(examples=60)
@given(damage=st.data())
def test_a_damaged_file_is_refused_in_one_line_or_read_as_it_was(path, damage):
    whole = path.read_bytes()
    content = bytearray(whole[: damage.draw(st.integers(0, len(whole)))])
    places = st.integers(0, 8 * len(content) - 1)
    for place in damage.draw(st.lists(places, max_size=3)) if content else ():
        content[place // 8] ^= 1 << place % 8
    damaged = path.with_name("damaged.npz")
    damaged.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read_arrays(damaged, "image file")
        except UserError as error:
            assert names(str(error), "image file", damaged, "copy", "anew")
            assert "\n" not in str(error)
        else:
            assert same(found)


def test_every_bit_that_flips_is_noticed_or_does_not_count(path):
    whole, refused = path.read_bytes(), 0
    for place in range(0, 8 * len(whole), 13):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert same(read_arrays(path, "image file")), place
            except UserError:
                refused += 1
    assert refused > 8 * len(whole) / 13 / 2


def test_a_header_that_asks_for_less_is_refused(tmp_path):
    path, array = tmp_path / "some.npz", io.BytesIO()
    np.save(array, np.zeros((8, 3)))
    less = array.getvalue().replace(b"(8, 3)", b"(1, 3)")
    np.savez(path, images=np.zeros((8, 3)))
    path.write_bytes(path.read_bytes().replace(array.getvalue(), less))
    with pytest.raises(UserError, match=naming(path, "images.npy", "CRC")):
        read_arrays(path, "image file")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", less)
    with pytest.raises(UserError, match=naming(path, "images.npy", "header")):
        read_arrays(path, "image file")


def test_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "some.npz"
    for content in (b"", b"text", pickle.dumps({"labels": 1}), b"PK\x05\x06" + b"\xff" * 18):
        path.write_bytes(content)
        with pytest.raises(UserError, match=naming("image file", path)):
            read_arrays(path, "image file")
    np.savez(path, labels=np.array([object()]))
    with pytest.raises(UserError, match=naming("image file", path, "pickles")):
        read_arrays(path, "image file")
    with pytest.raises(UserError, match=naming("image file", tmp_path)):
        read_arrays(tmp_path, "image file")
    with pytest.raises(UserError, match=naming("other.npz", "exist")):
        read_arrays(tmp_path / "other.npz", "image file")


def test_a_file_that_may_not_be_read_is_named(path, monkeypatch):
    # Root, whom no mode of a file keeps out, is told the same.
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    with pytest.raises(UserError, match=naming(path, "Permission")):
        read_arrays(path, "image file")
