import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbackbones.data import video_features
from dynbackbones.errors import UserError
from tests.fuzzing import fuzz
from tests.messages import naming


def arrays(frames=5, coarse=3, fine=4):
    rng = np.random.default_rng(frames)
    shapes = {"coarse": (frames, coarse), "fine": (frames, fine)}
    return {name: rng.random(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture
def root(tmp_path):
    for name in ("walk/a b", "walk/c", "run/d"):
        video_features.write_features(tmp_path / f"{name}.npz", **arrays())
    return tmp_path


def listed(root, text, num_classes=2):
    (root / "list.txt").write_text(text, encoding="utf-8")
    return video_features.read_list(root / "list.txt", root, num_classes)


def test_a_list_gives_names_and_labels_in_its_order(root):
    videos = listed(root, "walk/a b 1\n\nrun/d 0\n")
    assert videos == [("walk/a b", 1), ("run/d", 0)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n \n", ["list.txt", "empty"]),
        ("walk/c 0\nrun/d 2\n", ["list.txt, line 2", "label 2", "0 to 1"]),
        ("run/d -1", ["line 1", "label -1"]),
        ("run/d", ["line 1", "'run/d'"]),
        ("run/d first", ["line 1", "'run/d first'"]),
        ("../other/x 0", ["line 1", "../other/x", "data_root"]),
        ("/etc/passwd 0", ["line 1", "/etc/passwd", "data_root"]),
        ("run/gone 0", ["line 1", "gone.npz", "does not exist"]),
    ],
)
def test_what_is_wrong_with_a_list_is_named(root, text, words):
    with pytest.raises(UserError, match=naming(*words)):
        listed(root, text)


def test_a_list_that_is_not_there_or_no_text(root):
    with pytest.raises(UserError, match=naming("other.txt")):
        video_features.read_list(root / "other.txt", root, 2)
    (root / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=naming("list.txt")):
        video_features.read_list(root / "list.txt", root, 2)


NAMES = st.text(st.sampled_from("ab/ \n\r\t\x0b\x85\u2028\xa0\udcff0-"), min_size=1, max_size=6)


@fuzz(examples=200)
@given(name=NAMES)
def test_a_line_gives_back_its_name_or_is_refused(tmp_path, name):
    try:
        line = video_features.list_line(name, 1)
    except UserError as error:
        assert repr(name) in str(error) and name.isascii() <= any(map(str.isspace, name))
        return
    listed = tmp_path / "list.txt"
    listed.write_bytes(line.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_features, "leaves", lambda root, name: False)
        patch.setattr(video_features.Path, "is_file", lambda path: True)
        assert video_features.read_list(listed, tmp_path, 2) == [(name, 1)]


def test_what_was_written_is_read(tmp_path):
    written = arrays()
    video_features.write_features(tmp_path / "new/v.npz", **written, first=np.array(2))
    read = video_features.read_features(tmp_path / "new/v.npz", 3, 4)
    assert sorted(read) == ["coarse", "fine", "first"]
    for name, values in written.items():
        assert np.array_equal(read[name], values)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["v.npz"]


def broken(**changes):
    return {name: values for name, values in {**arrays(), **changes}.items() if values is not None}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (broken(fine=None), ["fine", "coarse"]),
        (broken(fine=np.zeros((5, 6), np.float32)), ["fine", "6 channels", "4"]),
        (broken(fine=np.zeros((4, 4), np.float32)), ["coarse", "5 frames", "fine", "4"]),
        (broken(coarse=np.zeros((0, 3), np.float32)), ["coarse", "empty"]),
        (broken(coarse=np.zeros(3, np.float32)), ["coarse", "frames, channels"]),
        (broken(coarse=np.zeros((5, 3), np.int64)), ["coarse", "int64"]),
        (broken(fine=np.full((5, 4), np.inf, np.float32)), ["fine", "infinity", "frame 0"]),
        (broken(fine=np.array([[1.0] * 4] * 4 + [[np.nan] * 4])), ["fine", "NaN", "frame 4"]),
        (broken(fine=np.array([[{}] * 4] * 5)), ["pickles"]),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, content, words):
    np.savez(tmp_path / "v.npz", **content)
    with pytest.raises(UserError, match=naming("v.npz", *words)):
        video_features.read_features(tmp_path / "v.npz", 3, 4)


def test_files_that_are_cut_off_or_run_code_are_refused(root):
    path = root / "run/d.npz"
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no features", pickle.dumps({"fine": 1})):
        path.write_bytes(content)
        with pytest.raises(UserError, match=naming("d.npz", "cannot be read")):
            video_features.read_features(path)


def test_damaged_files_are_read_or_refused(root):
    path, rng, refused = root / "run/d.npz", np.random.default_rng(0), 0
    whole = path.read_bytes()
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(len(content), size=3):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            video_features.read_features(path)
        except UserError as error:
            refused += "d.npz" in str(error) and "\n" not in str(error)
    assert refused > 200
