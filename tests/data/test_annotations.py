"""What labelling tools write in a field of COCO's, and what it is read as."""

import copy
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbackbones.data.annotations import Malformed, flag, normalise, real, whole
from dynbackbones.data.suspicions import suspicions
from tests.fuzzing import fuzz
from tests.messages import names, naming

BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}


def content(*boxes):
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 12}],
        "annotations": [{**BOX, "id": number, **box} for number, box in enumerate(boxes, 1)],
        "categories": [{"id": 1, "name": "cat"}],
    }


def normalised(*boxes):
    data = content(*boxes)
    normalise(data)
    return data["annotations"]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3), (-1, -1), (3.0, 3), ("3", 3), (" 007 ", 7), ("3.0", 3), ("1e3", 1000), (3.5, None),
        (True, None), (None, None), ("", None), ("three", None), ("1_0", None), (math.nan, None),
        (math.inf, None), ("nan", None), ([3], None), (2**63, None), (10**400, None), (1e300, None),
        ("9007199254740993", 9007199254740993), ("٣", None),
    ],
)  # fmt: skip
def test_whole_numbers(value, number):
    read = whole(value)
    assert read == number
    assert read is None or type(read) is int


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1), (1.5, 1.5), ("1.5", 1.5), (".5", 0.5), ("-2e1", -20), ("1,5", None), (True, None),
     (math.nan, None), ("inf", None), ("1e999", None), (None, None), ({}, None)],
)  # fmt: skip
def test_numbers(value, number):
    assert real(value) == number


@pytest.mark.parametrize(
    ("value", "number"),
    [(None, 0), (False, 0), (True, 1), (0, 0), (1.0, 1), ("0", 0), ("1", 1), (" False", 0),
     ("TRUE", 1), ("", 0), (2, None), (-1, None), ("yes", None), ([], None), (math.nan, None)],
)  # fmt: skip
def test_flags(value, number):
    assert flag(value) == number


def test_a_plain_content_stays_as_it_is():
    data = content({}, {"segmentation": [[0, 0, 1, 0, 1, 1]], "iscrowd": 1})
    before = copy.deepcopy(data)
    assert normalise(data) == ([], False, False)
    assert data == before


@pytest.mark.parametrize("first", [0, -3, None, "x", 2])
def test_annotation_ids_that_are_none_are_numbered_anew(first):
    data = content({"id": first}, {"id": 2}, {"id": 9})
    (said,) = normalise(data).sentences
    assert [box["id"] for box in data["annotations"]] == [1, 2, 3]
    assert names(said, 1, "ids")


def test_texts_are_read_as_the_numbers_in_them():
    data = content({"id": "1", "image_id": 7.0, "category_id": "3", "bbox": ["1", "2", 3, 4.5]})
    data["images"][0] |= {"id": "0007", "height": "8", "width": 12.0}
    data["categories"][0] |= {"id": "3"}
    assert normalise(data) == ([], True, False)
    assert data["images"][0] == {"id": 7, "file_name": "a.jpg", "height": 8, "width": 12}
    assert data["categories"] == [{"id": 3, "name": "cat"}]
    assert data["annotations"][0] == {
        **BOX,
        "image_id": 7,
        "category_id": 3,
        "bbox": [1, 2, 3, 4.5],
    }


@pytest.mark.parametrize(("name", "read"), [(None, "1"), (5, "5"), ("", "")])
def test_categories_have_names(name, read):
    data = content({})
    data["categories"][0]["name"] = name
    normalise(data)
    assert data["categories"][0]["name"] == read


@pytest.mark.parametrize(
    ("area", "read"),
    [(None, 12), (-1, 12), (0, 12), (math.nan, 12), ("x", 12), ("7.5", 7.5), (7, 7)],
)
def test_an_area_is_the_boxs_where_there_is_none(area, read):
    assert normalised({"area": area})[0]["area"] == read
    assert normalised({"area": area, "bbox": [1, 2, 0, 4]})[0]["area"] in (0, read)


def test_an_area_that_is_not_there():
    data = content({}, {})
    for box in data["annotations"]:
        del box["area"], box["iscrowd"]
    (said,) = normalise(data).sentences
    assert data == content({}, {})
    assert names(said, 2, "area")


def test_boxes_to_ignore_are_crowds():
    data = content({"ignore": 1}, {"ignore": 0}, {"ignore": True, "iscrowd": 1})
    (said,) = normalise(data).sentences
    assert [box["iscrowd"] for box in data["annotations"]] == [1, 0, 1]
    assert all("ignore" not in box for box in data["annotations"])
    assert names(said, 1, "ignore")


@pytest.mark.parametrize(
    ("given_", "read"),
    [
        ([[0, 0, 1, 0, 1, 1]], [[0, 0, 1, 0, 1, 1]]),
        ([0, 0, 1, 0, 1, 1], [[0, 0, 1, 0, 1, 1]]),
        ([[0, 0, 1, 0, 1, 1], [1, 2], []], [[0, 0, 1, 0, 1, 1]]),
        ({"size": [8, 12], "counts": [96]}, {"size": [8, 12], "counts": [96]}),
        ([[]], None), ([], None), (None, None), ("", None), ([[0, 0, 1, 1]], None),
        ([[0, 0, 1, 0, 1, None]], None), ([None], None),
    ],
)  # fmt: skip
def test_outlines_that_are_none_are_left_out_and_their_boxes_kept(given_, read):
    (box,) = normalised({"segmentation": given_})
    assert box.get("segmentation") == read
    assert ("segmentation" in box) == (read is not None)
    assert box["bbox"] == [1, 2, 3, 4]


def test_what_has_no_certain_meaning_is_refused_with_its_place():
    with pytest.raises(Malformed, match=naming("annotations[1]", iscrowd="perhaps")):
        normalise(content({}, {"iscrowd": "perhaps"}))


# Whatever JSON can hold, near to what fields hold.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "0", "1", "1.0", "-1", "nan", "true", "None", "a\\b.jpg", "٣"]),
    st.text("aé1. \0\n\\/", max_size=3),
    st.lists(
        st.one_of(st.integers(-2, 9), st.floats(), st.none(), st.text("a1", max_size=2)), max_size=5
    ),
    st.lists(st.lists(st.integers(-2, 9), max_size=7), max_size=2),
    st.dictionaries(st.sampled_from(["size", "counts"]), st.integers(), max_size=2),
)
FIELDS = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": (*BOX, "segmentation", "ignore"),
}
EDITS = st.lists(
    st.sampled_from([(key, field) for key, fields in FIELDS.items() for field in fields]).flatmap(
        lambda place: st.tuples(st.just(place), st.integers(0, 1), ODD)
    ),
    max_size=4,
)


@fuzz(200)
@given(EDITS)
def test_any_content_is_refused_or_plain_afterwards(edits):
    data = content({}, {"bbox": [0, 0, 12, 8]})
    for (key, field), index, value in edits:
        data[key][index % len(data[key])][field] = value
    try:
        normalise(data)
    except Malformed as error:
        assert "\n" not in str(error)
        return
    assert all("\n" not in sentence for sentence in suspicions(data))
    plain = json.loads(json.dumps(data, allow_nan=False))
    assert plain == data
    assert normalise(plain) == ([], False, False) and plain == data
    ids = [box["id"] for box in data["annotations"]]
    assert len(set(ids)) == 2 and min(ids) > 0
    for box in data["annotations"]:
        assert box["iscrowd"] in (0, 1) and type(box["iscrowd"]) is int
        assert len(box["bbox"]) == 4 and min(box["bbox"][2:]) >= 0
        assert math.isfinite(box["area"])
        assert box.get("segmentation") != []
