import pytest
import torch

from dynbackbones.policy import greedy_search
from tests.messages import naming


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
    ("num_actions", "count", "score", "words"),
    [
        (0, 0, 0, ("num_actions", 0)),
        (4, 5, 0, ("count", "0..4", 5)),
        (4, 3, float("nan"), ("evaluate", "nan")),
    ],
)
def test_wrong_arguments(num_actions, count, score, words):
    with pytest.raises(ValueError, match=naming(*words)):
        greedy_search(lambda actions: score, num_actions, count)
