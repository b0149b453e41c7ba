"""What a file says of its model's classes, whoever wrote it."""

import pytest

from dynbackbones.checkpoints.classes import trained_classes


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"classes": ["a", "b"]}, ("a", "b")),
        ({"dataset_meta": {"classes": ("a", "b"), "palette": []}}, ("a", "b")),
        ({"CLASSES": ("a", "b")}, ("a", "b")),
        ({"classes": None, "dataset_meta": {"classes": ["a"]}}, ("a",)),
        ({"classes": []}, None),
        ({"classes": "ab"}, None),
        ({"classes": [1, 2]}, None),
        ({"dataset_meta": "x"}, None),
        (None, None),
        ([], None),
    ],
)
def test_trained_classes(meta, names):
    assert trained_classes({"meta": meta}) == names


def test_a_file_without_meta():
    assert trained_classes({}) is None
