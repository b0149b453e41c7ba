import pytest
import torch

from dynbackbones.policy import (
    discounted_returns,
    margin_reward,
    probability_gain_reward,
    probability_reward,
    usage_reward,
)
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


def probabilities_and_labels(seed, samples=7, steps=5, classes=4):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(samples, steps, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (samples,), generator=generator)
    return logits.softmax(dim=2), labels


@pytest.mark.parametrize("seed", range(20))
def test_margins_telescope(seed):
    probabilities, labels = probabilities_and_labels(seed)
    rewards = margin_reward(probabilities, labels)
    margins = torch.stack(
        [
            p[:, label] - p[:, [c for c in range(4) if c != label]].amax(dim=1)
            for p, label in zip(probabilities, labels.tolist(), strict=True)
        ]
    )
    assert (rewards >= 0).all() and (rewards[:, 0] == 0).all()
    torch.testing.assert_close(rewards.sum(dim=1), margins.amax(dim=1) - margins[:, 0])


def test_rewards_of_probabilities():
    probabilities, labels = probabilities_and_labels(0)
    true = torch.stack([p[:, c] for p, c in zip(probabilities, labels.tolist(), strict=True)])
    assert torch.equal(probability_reward(probabilities, labels)[:, 1:], true[:, 1:])
    gain = probability_gain_reward(probabilities, labels)
    torch.testing.assert_close(gain.sum(dim=1), true[:, -1] - true[:, 0])
    for reward in (probability_reward, probability_gain_reward):
        assert reward(probabilities, labels)[:, 0].eq(0).all()


def test_returns_against_their_sum():
    rewards = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    returns = discounted_returns(rewards, 0.9)
    for t in range(4):
        expected = sum(0.9**i * rewards[:, t + i] for i in range(4 - t))
        torch.testing.assert_close(returns[:, t], expected)
    assert discounted_returns(rewards[:, :0], 0.9).shape == (3, 0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"probabilities": torch.rand(2, 3)}, ("probabilities", (2, 3))),
        ({"probabilities": torch.rand(2, 3, 1)}, ("probabilities", (2, 3, 1))),
        ({"labels": torch.zeros(3)}, ("labels", 2, (3,))),
        ({"labels": torch.tensor([0, 4])}, ("labels", [0, 4], "0..3")),
    ],
)
def test_probabilities_and_labels_that_do_not_fit(wrong, words):
    right = {"probabilities": torch.rand(2, 3, 4), "labels": torch.zeros(2, dtype=torch.long)}
    with pytest.raises(ValueError, match=naming(*words)):
        margin_reward(**{**right, **wrong})


def test_returns_want_a_discount_and_steps():
    with pytest.raises(ValueError, match=naming("discount", 1.1)):
        discounted_returns(torch.rand(1, 2), 1.1)
    with pytest.raises(ValueError, match=naming("rewards", (3,))):
        discounted_returns(torch.rand(3), 0.9)
