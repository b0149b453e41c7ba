import pytest
import torch

from dynbackbones.policy import greedy_search


def test_gives_up_what_is_missed_least():
    worth = torch.tensor([5.0, 1.0, 4.0, 0.0, 3.0])
    asked = []

    def evaluate(actions):
        asked.append(actions)
        return worth[actions].sum()

    assert greedy_search(evaluate, 5, 3).int().tolist() == [1, 0, 1, 0, 1]
    assert len(asked) == 5 + 4
    assert greedy_search(evaluate, 5, 5).all()
    assert not greedy_search(evaluate, 5, 0).any()


def test_the_later_of_equals_goes():
    assert greedy_search(lambda actions: 0, 4, 2).int().tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("num_actions", "count", "score", "message"),
    [
        (0, 0, 0, "num_actions must be at least 1, got 0"),
        (4, 5, 0, r"count must lie in 0\.\.4, got 5"),
        (4, 3, float("nan"), "evaluate must return a number, got nan"),
    ],
)
def test_wrong_arguments(num_actions, count, score, message):
    with pytest.raises(ValueError, match=message):
        greedy_search(lambda actions: score, num_actions, count)
