from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynbackbones.analysis.frame_schedules import ages_of, best_keys, headroom_captured
from tests.messages import naming


def total(errors, keys):
    ages = ages_of(keys, len(errors))
    if ages.max() >= errors.shape[1]:
        return np.inf
    return errors[np.arange(len(errors)), ages].sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 5), st.integers(1, 7))
def test_no_choice_of_keys_has_less_error(seed, frames, ages, count):
    errors = np.random.default_rng(seed).random((frames, ages)).round(2)
    choices = [
        (0, *rest) for n in range(count) for rest in combinations(range(1, frames), n)
    ]
    least = min(total(errors, keys) for keys in choices)
    if np.isinf(least):
        with pytest.raises(ValueError, match=naming(count, frames)):
            best_keys(errors, count)
        return
    keys = best_keys(errors, count)
    assert keys[0] == 0 and len(keys) <= count
    assert total(errors, keys) == pytest.approx(least)


def test_ages_count_from_the_last_key():
    assert ages_of([0, 3], 5).tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(ValueError, match="first"):
        ages_of([1], 3)


def test_headroom_is_the_oracles_gain():
    assert headroom_captured(75, 70, 80) == 0.5
    assert headroom_captured(70, 70, 70.05) is None
    with pytest.raises(ValueError, match=naming("num_keys", 0)):
        best_keys(np.zeros((2, 2)), 0)
