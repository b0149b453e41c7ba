import math

import pytest
import torch

from dynbackbones.policy import PolicyLearning, PolicyProposal
from tests.messages import naming


def proposal(probabilities, sampled, greedy, learned=None):
    learned = [True] * len(probabilities[0]) if learned is None else learned
    return PolicyProposal(
        torch.tensor(probabilities, requires_grad=True),
        torch.tensor(learned),
        torch.tensor(sampled).bool(),
        torch.tensor(greedy).bool(),
    )


def test_the_loss_is_the_papers():
    # Sampled: half of the blocks and right, 1 - 0.25; greedy: all and right, 0. Then the reverse
    # with a wrong prediction: -2 against 0.75.
    tried = proposal([[0.8, 0.6], [0.8, 0.3]], [[1, 0], [1, 1]], [[1, 1], [1, 0]])
    losses = PolicyLearning(gamma=2.0).losses(
        tried, torch.tensor([True, False]), torch.tensor([True, True])
    )
    first = 0.75 * (math.log(0.8) + math.log(0.4))
    second = (-2 - 0.75) * (math.log(0.8) + math.log(0.3))
    assert losses["loss_policy"].item() == pytest.approx(-(first + second) / 2, rel=1e-5)
    assert float(losses["reward"]) == pytest.approx((0.75 - 2) / 2)
    assert float(losses["greedy_reward"]) == pytest.approx(0.375)
    assert float(losses["greedy_accuracy"]) == 100
    assert float(losses["sampled_usage"]) == float(losses["greedy_usage"]) == 0.75
    assert float(losses["distinct_policies"]) == 2
    assert [name for name in losses if "loss" in name] == ["loss_policy"]


def test_only_learned_blocks_have_gradients():
    tried = proposal([[0.8, 0.6], [0.7, 0.6]], [[1, 0], [1, 0]], [[1, 1], [1, 1]], [False, True])
    right = torch.tensor([True, True])
    losses = PolicyLearning(entropy_weight=0.1).losses(tried, right, right)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    gradient = tried.probabilities.grad
    assert (gradient[:, 0] == 0).all() and (gradient[:, 1] != 0).all()
    assert float(losses["learned_blocks"]) == 1


def test_entropy_is_rewarded_on_request():
    tried = proposal([[0.5, 0.5]], [[1, 1]], [[1, 1]])
    right = torch.tensor([True])
    losses = PolicyLearning(entropy_weight=0.1).losses(tried, right, right)
    assert losses["loss_entropy"].item() == pytest.approx(-0.2 * math.log(2))
    assert "loss_entropy" not in PolicyLearning().losses(tried, right, right)


def test_proposals_are_bounded_and_force_on_what_is_not_learned():
    torch.manual_seed(0)
    saturated = torch.zeros(4000, 3, requires_grad=True)
    tried = PolicyLearning(alpha=0.8).propose(saturated, torch.tensor([False, True, True]))
    assert tried.sampled[:, 0].all() and tried.greedy[:, 0].all()
    assert not tried.greedy[:, 1:].any()
    assert tried.sampled[:, 1:].float().mean().item() == pytest.approx(0.2, abs=0.02)
    differs = (tried.sampled != tried.greedy).any(dim=1)
    assert differs.float().mean().item() == pytest.approx(1 - 0.8**2, abs=0.03)
    assert tried.probabilities.requires_grad


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": -1},
        {"gamma": math.inf},
        {"gamma": math.nan},
        {"alpha": 0.5},
        {"alpha": 1.1},
        {"entropy_weight": -0.1},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=naming(**options)):
        PolicyLearning(**options)
