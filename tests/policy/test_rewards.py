import pytest
import torch

from dynbackbones.policy import usage_reward
from tests.messages import naming


def test_reward_of_usage_and_penalty_of_failure():
    actions = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    success = torch.tensor([True, True, True, False])
    reward = usage_reward(actions, success, gamma=5)
    torch.testing.assert_close(reward, torch.tensor([0.75, 1.0, 0.0, -5.0]))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"gamma": -1.0}, ("gamma", -1.0)),
        ({"gamma": float("nan")}, ("gamma", "nan")),
        ({"gamma": float("inf")}, ("gamma", "inf")),
        ({"actions": torch.ones(0, 3)}, ("actions", (0, 3))),
        ({"actions": torch.full((2, 3), 2)}, ("actions", 0, 1)),
        ({"success": torch.ones(2, 1)}, ("success", 2, (2, 1))),
    ],
)
def test_arguments_that_do_not_fit(wrong, words):
    right = {"actions": torch.ones(2, 3), "success": torch.ones(2, dtype=torch.bool), "gamma": 1.0}
    with pytest.raises(ValueError, match=naming(*words)):
        usage_reward(**{**right, **wrong})
