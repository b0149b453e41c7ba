"""Whether images with more objects are given more."""

import json

import pytest

from dynbackbones.analysis import RatesByObjects


def test_few_different_numbers_have_a_line_each():
    found = RatesByObjects("activation_rate", [2, 0, 2, 7], [0.3, 0.1, 0.5, 0.4])
    assert found.groups() == [
        {"least": 0, "most": 0, "images": 1, "rate": pytest.approx(0.1)},
        {"least": 2, "most": 2, "images": 2, "rate": pytest.approx(0.4)},
        {"least": 7, "most": 7, "images": 1, "rate": pytest.approx(0.4)},
    ]


def test_many_different_numbers_make_groups_of_about_equal_size():
    numbers = [number for number in range(40) for _ in range(1 + number % 2)]
    groups = RatesByObjects("usage", numbers, [number / 40 for number in numbers]).groups()
    assert len(groups) == 5
    assert sum(group["images"] for group in groups) == len(numbers) == 60
    assert all(10 <= group["images"] <= 14 for group in groups)
    for one, following in zip(groups, groups[1:], strict=False):
        assert one["most"] < following["least"] and one["rate"] < following["rate"]


def test_a_number_that_most_images_have_is_not_torn_apart():
    numbers = [3] * 50 + list(range(4, 14))
    groups = RatesByObjects("usage", numbers, [0.5] * 60).groups()
    assert groups[0] == {"least": 3, "most": 3, "images": 50, "rate": 0.5}


def test_the_correlation_is_none_where_nothing_varies():
    assert RatesByObjects("usage", [1, 2], [0.5, 0.5]).correlation is None
    assert RatesByObjects("usage", [1, 1], [0.2, 0.5]).correlation is None
    rising = RatesByObjects("usage", [1, 2, 3], [0.1, 0.2, 0.3])
    assert rising.correlation == pytest.approx(1)
    assert "not known" in RatesByObjects("usage", [1], [0.5]).table()
    assert json.loads(json.dumps(rising.to_dict()))["correlation"] == pytest.approx(1)


@pytest.mark.parametrize("lengths", [(0, 0), (2, 3)])
def test_of_no_images_or_of_different_ones_is_refused(lengths):
    objects, rates = lengths
    with pytest.raises(ValueError, match="got"):
        RatesByObjects("usage", [1] * objects, [0.5] * rates)
