import pytest

from dynbackbones.errors import UserError
from dynbackbones.experiments.rows import Row, chain, read_rows
from tests.messages import naming


def test_options_stand_beside_overrides():
    row = Row.read("SAR", {"MODEL.SAR.GROUPS": 1, "_start_": "plain", "_rates_": [0.3, 0.5]})
    assert row == Row("SAR", {"MODEL.SAR.GROUPS": 1}, "plain", (0.3, 0.5))
    assert row.entries() == [("SAR", None), ("SAR, rate 0.3", 0.3), ("SAR, rate 0.5", 0.5)]
    assert not Row.read("SAR", {"_run_": False}).run and row.run


@pytest.mark.parametrize(
    "variants, words",
    [
        ({"a": {"_starts_": "b"}}, ("'a'", "_starts_", "_start_")),
        ({"a": {"_start_": "b"}}, ("'a'", "_start_", "'b'")),
        ({"a": {"_start_": "b"}, "b": {"_start_": "a"}}, ("'a'", "itself")),
        ({"a": {"_start_": "a"}}, ("'a'", "itself")),
        ({"a": {"_rates_": [0.3, 1.5]}}, ("'a'", "_rates_", "1.5")),
        ({"a": {"_rates_": 0.3}}, ("'a'", "_rates_", "0.3")),
        ({"a b": {}, "a, b": {}}, ("'a b'", "'a, b'", "a-b")),
    ],
)
def test_wrong_rows_are_refused(variants, words):
    with pytest.raises(UserError, match=naming(*words)):
        read_rows(variants)


def test_a_row_needs_those_that_it_starts_from():
    rows = read_rows({"c": {"_start_": "b"}, "b": {"_start_": "a"}, "a": {}, "d": {}})
    assert chain(rows, "c") == ["a", "b", "c"]
    assert chain(rows, "d") == ["d"]
