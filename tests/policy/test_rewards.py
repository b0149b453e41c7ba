import pytest
import torch

from dynbackbones.policy import usage_reward


def test_reward_of_usage_and_penalty_of_failure():
    actions = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    success = torch.tensor([True, True, True, False])
    reward = usage_reward(actions, success, gamma=5)
    torch.testing.assert_close(reward, torch.tensor([0.75, 1.0, 0.0, -5.0]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gamma": -1.0}, "gamma must be a finite number of at least 0, got -1.0"),
        ({"gamma": float("nan")}, "gamma must be a finite number"),
        ({"gamma": float("inf")}, "gamma must be a finite number"),
        ({"actions": torch.ones(0, 3)}, "actions must be .* neither of them none"),
        ({"actions": torch.full((2, 3), 2)}, "actions must contain only 0 and 1"),
        ({"success": torch.ones(2, 1)}, "success must have one value for each of the 2 samples"),
    ],
)
def test_arguments_that_do_not_fit(wrong, message):
    right = {"actions": torch.ones(2, 3), "success": torch.ones(2, dtype=torch.bool), "gamma": 1.0}
    with pytest.raises(ValueError, match=message):
        usage_reward(**{**right, **wrong})
