"""Classes are matched by their names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbackbones.data.classes import Classes, class_names, labels_of, match_classes
from dynbackbones.errors import UserError
from tests.fuzzing import fuzz
from tests.messages import naming

CLASSES = Classes(("cat", "dog", "cow"), "my_train")


def content(*names, ids=None):
    ids = ids or range(1, len(names) + 1)
    return {
        "categories": [{"id": n, "name": name} for n, name in zip(ids, names, strict=True)],
        "annotations": [{"category_id": n} for n in ids],
    }


def test_names_come_in_the_order_of_ids():
    assert class_names(content("cat", "dog", "cow", ids=[9, 3, 4])) == ("dog", "cow", "cat")


def test_labels_are_found_by_name():
    assert labels_of(["cat", "dog", "cow"], CLASSES, "v") == [0, 1, 2]
    assert labels_of(["cow", " Cat", "DOG "], CLASSES, "v") == [2, 0, 1]


@pytest.mark.parametrize(
    ("names", "word"), [(["cat", "dog", "pig"], "'pig'"), (["cat", "dog", "dog"], "cat, dog, dog")]
)
def test_other_names_are_refused(names, word):
    with pytest.raises(UserError, match=naming("my_val", word, "my_train", "cat, dog, cow")):
        labels_of(names, CLASSES, "my_val")


def test_names_that_repeat_say_nothing_unless_they_stand_in_one_order():
    twice = Classes(("cat", "cat", "dog"), "my_train")
    assert labels_of(["cat", "cat", "dog"], twice, "v") == [0, 1, 2]
    with pytest.raises(UserError, match=naming("v", "my_train")):
        labels_of(["dog", "cat", "cat"], twice, "v")


@fuzz(100)
@given(st.permutations(CLASSES.names), st.permutations([0, 7, 90]))
def test_a_file_in_any_order_means_the_same_afterwards(names, ids):
    data = content(*names, ids=ids)
    meant = [{category["id"]: category["name"] for category in data["categories"]}[i] for i in ids]
    moved = match_classes(data, CLASSES, "v")
    assert class_names(data) == CLASSES.names
    names_of = {category["id"]: category["name"] for category in data["categories"]}
    assert [names_of[entry["category_id"]] for entry in data["annotations"]] == meant
    assert moved == (class_names(content(*names, ids=ids)) != CLASSES.names)


def test_names_are_spelt_as_the_models():
    data = content("Cat", "dog ", "cow")
    assert not match_classes(data, CLASSES, "v")
    assert class_names(data) == CLASSES.names
