import re

import pytest

from tests.messages import names, naming

MESSAGE = "MODEL.SAR.GROUPS is -1.5 in\nruns/a.yaml, not 'all' of (2, 12); set it to 1."


@pytest.mark.parametrize(
    "words",
    [
        ("GROUPS", -1.5), (-1.5, "MODEL.SAR.GROUPS"), ("runs/a.yaml", "set"), ("a.yaml",),
        ("all",), ("'all'",), ((2, 12),), (1,), (2, 12), ("(2",), ("yaml, not",),
    ],
)  # fmt: skip
def test_what_is_named(words):
    assert names(MESSAGE, *words)


@pytest.mark.parametrize(
    "words",
    [("GROUP",), ("ROUPS",), ("GROUPS", -1), (1.5,), (5,), (22,), ("a.yam",), ("GROUPS", 3)],
)
def test_what_is_not(words):
    assert not names(MESSAGE, *words)


def test_options_are_named_with_their_values():
    assert re.search(naming(groups=3), "groups must not be 3") and names("groups=3", groups=3)
    assert not names("groups must not be 4", groups=3)
    assert not names("alpha must not be 3", groups=3)
    assert not names("groups must not be 3", groups="3")
