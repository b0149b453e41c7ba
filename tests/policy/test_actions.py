import itertools
import math

import pytest
import torch

from dynbackbones.policy import (
    bound_probabilities,
    discounted_returns,
    greedy_actions,
    policy_entropy,
    policy_gradient_loss,
    sample_actions,
    score_function_loss,
    usage_reward,
)
from tests.messages import naming


def test_bounded_probabilities_stay_away_from_certainty():
    bounded = bound_probabilities(torch.tensor([[0.0, 0.5, 1.0, 0.9]]), alpha=0.8)
    torch.testing.assert_close(bounded, torch.tensor([[0.2, 0.5, 0.8, 0.74]]))
    assert torch.equal(bound_probabilities(bounded, alpha=1), bounded)


@pytest.mark.parametrize("alpha", [0.5, 1.01, -1.0, float("nan")])
def test_alpha_out_of_range(alpha):
    with pytest.raises(ValueError, match=naming(alpha=alpha)):
        bound_probabilities(torch.rand(1, 2), alpha=alpha)


def test_greedy_actions_need_more_than_a_half():
    assert greedy_actions(torch.tensor([[0.49, 0.5, 0.51]])).tolist() == [[False, False, True]]


def test_samples_follow_the_probabilities_and_the_generator():
    probabilities = torch.tensor([[0.1, 0.5, 0.9]]).expand(4000, 3)
    first, second = (
        sample_actions(probabilities, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second) and first.dtype == torch.bool
    torch.testing.assert_close(
        first.float().mean(dim=0), torch.tensor([0.1, 0.5, 0.9]), atol=0.03, rtol=0
    )


def test_policy_gradient_against_a_hand_computed_value():
    logits = torch.tensor([[0.3, -0.2, 1.0], [0.0, 2.0, -1.0]], dtype=torch.float64)
    logits.requires_grad_()
    actions = torch.tensor([[1, 0, 1], [0, 1, 1]])
    advantage = torch.tensor([0.5, -1.0], dtype=torch.float64)
    learned = torch.tensor([False, True, True])
    alpha = 0.8
    s = logits.sigmoid()
    loss = policy_gradient_loss(bound_probabilities(s, alpha), actions, advantage, learned)
    loss.backward()
    expected = torch.zeros(2, 3, dtype=torch.float64)
    total = 0.0
    for n in range(2):
        for k in (1, 2):
            p = s[n, k].item()
            bounded = alpha * p + (1 - alpha) * (1 - p)
            action = actions[n, k].item()
            taken = bounded if action else 1 - bounded
            total -= advantage[n].item() * math.log(taken) / 2
            # d log(taken) / d logit, by hand
            slope = (2 * alpha - 1) * p * (1 - p) / taken * (1 if action else -1)
            expected[n, k] = -advantage[n].item() * slope / 2
    assert loss.item() == pytest.approx(total)
    torch.testing.assert_close(logits.grad, expected)


def test_reinforce_is_the_gradient_of_the_expected_reward():
    """Two steps of three actions, the second's policy knows the first action."""
    torch.manual_seed(0)
    weights = torch.randn(4, 3, dtype=torch.float64)  # first step, then after each first action
    first, second = torch.randn(3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    baseline = torch.tensor([0.7, -0.3], dtype=torch.float64)

    def chances(weights):
        return weights[0].softmax(0)[:, None] * weights[1:].softmax(1)

    def expected(weights):
        return float((chances(weights) * (first[:, None] + second)).sum())

    differences = torch.zeros_like(weights)
    for index in itertools.product(range(4), range(3)):
        ends = []
        for step in (1e-6, -1e-6):
            moved = weights.clone()
            moved[index] += step
            ends.append(expected(moved))
        differences[index] = (ends[0] - ends[1]) / 2e-6
    weights.requires_grad_()
    pairs = torch.tensor(list(itertools.product(range(3), range(3))))
    logs = torch.stack(
        [
            weights[0].log_softmax(0)[pairs[:, 0]],
            weights[1:].log_softmax(1)[pairs[:, 0], pairs[:, 1]],
        ],
        dim=1,
    )
    rewards = torch.stack([first[pairs[:, 0]], second[pairs[:, 0], pairs[:, 1]]], dim=1)
    returns = discounted_returns(rewards, 1.0) - baseline
    # Every sequence as often as it is drawn: no noise.
    often = chances(weights).detach().flatten()[:, None] * len(pairs)
    score_function_loss(logs, often * returns).backward()
    torch.testing.assert_close(-weights.grad, differences, atol=1e-7, rtol=1e-6)


def test_masked_steps_count_nowhere():
    logs = torch.tensor([[-1.0, torch.nan], [-2.0, -3.0]], requires_grad=True)
    advantage = torch.tensor([[2.0, torch.inf], [1.0, -1.0]])
    mask = torch.tensor([[True, False], [True, True]])
    loss = score_function_loss(logs, advantage, mask)
    loss.backward()
    assert loss.item() == (2 + 2 - 3) / 2
    assert logs.grad.tolist() == [[-1.0, 0.0], [-0.5, 0.5]]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"log_probs": torch.rand(2, 0)}, ("log_probs", (2, 0))),
        ({"advantage": torch.rand(2)}, ("advantage", (2, 3), (2,))),
        ({"mask": torch.ones(3, 2)}, ("mask", (2, 3), (3, 2))),
    ],
)
def test_steps_that_do_not_fit(wrong, words):
    right = {"log_probs": torch.rand(2, 3), "advantage": torch.rand(2, 3)}
    with pytest.raises(ValueError, match=naming(*words)):
        score_function_loss(**{**right, **wrong})


def test_the_advantage_gets_no_gradient_and_certainty_stays_finite():
    probabilities = torch.tensor([[0.0, 1.0]], requires_grad=True)
    advantage = torch.ones(1, requires_grad=True)
    loss = policy_gradient_loss(probabilities, torch.tensor([[1, 0]]), advantage)
    loss.backward()
    assert loss.isfinite() and probabilities.grad.isfinite().all() and advantage.grad is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"probabilities": torch.rand(0, 3)}, ("probabilities", (0, 3))),
        ({"actions": torch.ones(2, 4)}, ("actions", (2, 3), (2, 4))),
        ({"actions": torch.full((2, 3), 0.5)}, ("actions", 0, 1)),
        ({"advantage": torch.ones(3)}, ("advantage", 2, (3,))),
        ({"learned": torch.ones(2)}, ("learned", 3, (2,))),
    ],
)
def test_arguments_that_do_not_fit(wrong, words):
    right = {
        "probabilities": torch.rand(2, 3),
        "actions": torch.ones(2, 3),
        "advantage": torch.ones(2),
    }
    with pytest.raises(ValueError, match=naming(*words)):
        policy_gradient_loss(**{**right, **wrong})


def test_entropy():
    probabilities = torch.tensor([[0.5, 0.5], [0.0, 1.0], [0.9, 1.0]], requires_grad=True)
    entropy = policy_entropy(probabilities)
    h = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    torch.testing.assert_close(
        entropy, torch.tensor([2 * math.log(2), 0.0, h]), atol=1e-5, rtol=1e-5
    )
    entropy.sum().backward()
    assert probabilities.grad.isfinite().all()


def test_a_bandit_is_learned():
    """Two kinds of samples, each needing one action of its own; all others only cost."""
    torch.manual_seed(0)
    kinds = torch.arange(64) % 2
    inputs = torch.nn.functional.one_hot(kinds, 2).float()
    policy = torch.nn.Linear(2, 6)
    optimiser = torch.optim.Adam(policy.parameters(), lr=0.05)

    def reward(actions):
        success = actions.gather(1, kinds[:, None]).squeeze(1)
        return usage_reward(actions, success, gamma=1.0)

    before = reward(greedy_actions(policy(inputs).sigmoid())).mean()
    for _ in range(200):
        probabilities = policy(inputs).sigmoid()
        bounded = bound_probabilities(probabilities)
        actions = sample_actions(bounded)
        advantage = reward(actions) - reward(greedy_actions(probabilities))
        optimiser.zero_grad()
        policy_gradient_loss(bounded, actions, advantage).backward()
        optimiser.step()
    learned = greedy_actions(policy(inputs).sigmoid())
    assert reward(learned).mean() > 0.9 > before
    assert torch.equal(learned[:2].int(), torch.eye(6).int()[:2])
