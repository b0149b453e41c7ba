"""Properties over generated input: a few examples in every run, more of them by `make fuzz`."""

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
"""How many times as many examples as usual are tried."""


def fuzz(examples: int) -> Callable:
    """Decorates a test above its `given`: ``examples`` usually, and anew in every longer run.

    A fixture such as ``tmp_path`` is shared by all examples of a test.
    """

    def decorate(test: Callable) -> Callable:
        limits = settings(
            max_examples=examples * FACTOR,
            deadline=None,
            # The same examples in every usual run, so that nobody's change fails by chance.
            derandomize=FACTOR == 1,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )
        return pytest.mark.fuzz(limits(test))

    return decorate
