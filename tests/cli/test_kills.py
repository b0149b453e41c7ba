"""A kill of each kind of training; `make faults` has more of them."""

import pytest

from tests.faults.kills import KINDS, torment


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_loses_nothing(kind, tmp_path):
    if kind == "detectron2":
        pytest.importorskip("detectron2")
    tally = torment(kind, 2, tmp_path)
    assert (tally.kills, tally.faults) == (2, [])
