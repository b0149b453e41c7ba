"""What is a class and what an image, in folders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbackbones.data import class_folders
from dynbackbones.errors import UserError
from tests.fuzzing import fuzz
from tests.messages import naming


@pytest.fixture
def root(tmp_path):
    for name in ("train/cat/0.jpg", "train/dog/0.JPEG", "val/cat/1.png", "val/dog/a/1.tiff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", ".Trash-1000"])
def test_what_tools_hide_is_no_class(root, name):
    (root / "train" / name).mkdir()
    (root / "train" / name / "0-checkpoint.jpg").touch()
    assert class_folders.find_classes(root, "train") == ("cat", "dog")
    class_folders.check_classes(root, "train", ("cat", "dog"))


@pytest.mark.parametrize(
    "name", ["._0.jpg", ".ipynb_checkpoints/0.jpg", "__MACOSX/0.jpg", "0.jpg.txt", "Thumbs.db"]
)
def test_what_tools_hide_is_no_image(root, name):
    (root / "val" / "cat" / "1.png").unlink()
    path = root / "val" / "cat" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(UserError, match=naming("val", "cat", "image")):
        class_folders.check_classes(root, "val", ("cat", "dog"))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("cat", "cow", "dog"), ("missing", "cow")),
        (("cat",), ("unknown", "dog")),
    ],
)
def test_other_classes_are_refused(root, classes, words):
    with pytest.raises(UserError, match=naming(root / "val", *words)):
        class_folders.check_classes(root, "val", classes)


def test_a_folder_of_one_class(root):
    (root / "train" / "dog").rename(root / "train" / ".dog")
    with pytest.raises(UserError, match=naming(root / "train", 1, "two")):
        class_folders.find_classes(root, "train")
    with pytest.raises(UserError, match=naming(root / "test", "exist")):
        class_folders.find_classes(root, "test")


@fuzz(50)
@given(st.sets(st.text("ab._ é", min_size=1, max_size=4).filter(lambda n: n.strip("."))))
def test_any_names_but_hidden_ones_are_classes(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("folders")
    for name in (*names, "x", "y"):
        (root / "train" / name).mkdir(parents=True, exist_ok=True)
    found = class_folders.find_classes(root, "train")
    assert found == tuple(sorted({n for n in names if n[0] != "."} | {"x", "y"}))
