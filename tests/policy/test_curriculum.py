import pytest
import torch

from dynbackbones.policy import force_on, learned_actions, scheduled_count
from tests.messages import naming


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, [0, 0, 0, 0]), (1, [0, 0, 0, 1]), (3, [0, 1, 1, 1]), (4, [1] * 4), (9, [1] * 4)],
)
def test_the_last_actions_are_learned_first(count, expected):
    assert learned_actions(4, count).int().tolist() == expected


def test_the_others_are_forced_on():
    actions = torch.zeros(2, 4, dtype=torch.bool)
    assert force_on(actions, learned_actions(4, 1)).int().tolist() == [[1, 1, 1, 0]] * 2


def test_schedule_for_any_length_of_training():
    counts = [scheduled_count(5, epoch / 10) for epoch in range(11)]
    assert counts == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5]
    assert scheduled_count(5, 0.5, share=0.5) == 5


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: learned_actions(0, 1), {"num_actions": 0}),
        (lambda: learned_actions(4, -1), {"count": -1}),
        (lambda: scheduled_count(4, 1.5), {"progress": 1.5}),
        (lambda: scheduled_count(4, 0.5, share=0), {"share": 0}),
    ],
)
def test_values_out_of_range(call, named):
    with pytest.raises(ValueError, match=naming(**named)):
        call()
