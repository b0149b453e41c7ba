"""The line that says how far a command is."""

import pytest

from dynbackbones.training import progress
from dynbackbones.training.progress import show_time_left


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (3, ["frame 1/3, 120 s left, half", "frame 2/3, 45 s left, half"]),
        (None, ["frame 1, half", "frame 2, half"]),
        (1, ["frame 1, half", "frame 2, half"]),  # there are more than was said
    ],
)
def test_counts_and_the_time_left_where_the_end_is_known(total, said, capsys, monkeypatch):
    clock = iter(range(0, 1000, 30))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(show_time_left("abc", total, "frame", lambda: "half")) == list("abc")
    assert capsys.readouterr().err.splitlines() == said
