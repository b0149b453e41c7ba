"""One step of BlockDrop's policy learning, whatever tells whether a policy succeeds on an image.

Wu et al., BlockDrop: Dynamic Inference Paths in Residual Networks, CVPR 2018, sections 3.2, 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynbackbones.policy.actions import (
    bound_probabilities,
    greedy_actions,
    policy_entropy,
    policy_gradient_loss,
    sample_actions,
)
from dynbackbones.policy.curriculum import force_on
from dynbackbones.policy.rewards import usage_reward


@dataclass(frozen=True)
class PolicyProposal:
    """Actions that a step tries.

    Attributes:
        probabilities: (N, K) bounded ones, with gradients, which the actions were drawn from.
        learned: (K,) bool; the other actions are forced on.
        sampled: (N, K) bool.
        greedy: (N, K) bool, what evaluation would do: the self-critical baseline.
    """

    probabilities: Tensor
    learned: Tensor
    sampled: Tensor
    greedy: Tensor


def check_at_least_zero(name: str, value: float) -> None:
    """Refuses what is not a finite number of at least 0.

    Raises:
        ValueError: it is not.
    """
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")


@dataclass(frozen=True)
class PolicyLearning:
    """Options and losses of the policy gradient.

    Attributes:
        gamma: penalty of an image on which the policy does not succeed; see `usage_reward`.
        alpha: bound of the probabilities; see `bound_probabilities`.
        entropy_weight: of the policy's mean entropy (nats), which is rewarded; the paper has none,
            the authors' code 0.1.

    Raises:
        ValueError: one of them is out of range.
    """

    gamma: float = 5.0
    alpha: float = 0.8
    entropy_weight: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gamma", "entropy_weight"):
            check_at_least_zero(name, getattr(self, name))
        if not 0.5 < self.alpha <= 1:
            raise ValueError(f"alpha must lie in (0.5, 1], got {self.alpha}")

    def propose(self, probabilities: Tensor, learned: Tensor) -> PolicyProposal:
        """Draws actions.

        Args:
            probabilities: (N, K) of the policy network, with gradients.
            learned: (K,) bool; see `learned_actions`.
        """
        learned = learned.to(probabilities.device)
        bounded = bound_probabilities(probabilities, self.alpha)
        return PolicyProposal(
            bounded,
            learned,
            force_on(sample_actions(bounded), learned),
            force_on(greedy_actions(probabilities), learned),
        )

    def losses(
        self, proposal: PolicyProposal, sampled_right: Tensor, greedy_right: Tensor
    ) -> dict[str, Tensor]:
        """Losses, and what to log beside them (names without "loss").

        Args:
            proposal: what was tried.
            sampled_right, greedy_right: (N,) bool, whether the policies succeeded.
        """
        reward = usage_reward(proposal.sampled, sampled_right, self.gamma)
        baseline = usage_reward(proposal.greedy, greedy_right, self.gamma)
        losses = {
            "loss_policy": policy_gradient_loss(
                proposal.probabilities, proposal.sampled, reward - baseline, proposal.learned
            )
        }
        entropy = policy_entropy(proposal.probabilities[:, proposal.learned]).mean()
        if self.entropy_weight:
            losses["loss_entropy"] = -self.entropy_weight * entropy
        return {**losses, **self._figures(proposal, reward, baseline, greedy_right, entropy)}

    @staticmethod
    def _figures(
        proposal: PolicyProposal,
        reward: Tensor,
        baseline: Tensor,
        greedy_right: Tensor,
        entropy: Tensor,
    ) -> dict[str, Tensor]:
        greedy = proposal.greedy
        return {
            "reward": reward.mean(),
            "greedy_reward": baseline.mean(),
            "greedy_accuracy": 100 * greedy_right.float().mean(),
            "sampled_usage": proposal.sampled.float().mean(),
            "greedy_usage": greedy.float().mean(),
            "action_entropy": entropy.detach(),
            "distinct_policies": torch.tensor(
                float(len(greedy.unique(dim=0))), device=greedy.device
            ),
            "learned_blocks": proposal.learned.sum().float(),
        }


@dataclass(frozen=True)
class RewardOptions(PolicyLearning):
    """What a policy is rewarded for, and how fast it learns.

    Attributes:
        gamma: penalty of an image on which the policy does not succeed; the reward is 1 minus the
            square of the share of blocks that ran where it does.
        alpha: actions are drawn with probabilities in [1 - alpha, alpha].
        entropy_weight: rewards undecided policies; the paper does not, the authors' code with 0.1.
        tolerance: share by which an image's loss may exceed that of the full network for the policy
            to succeed on it.
        loss_weight: of the policy's loss beside the task's.
        curriculum: share of training in which the number of learned blocks rises from the last one
            to all of them, the others staying on; 0 learns all from the start. Where a policy
            drops so much that it always fails, it learns no more.

    Raises:
        ValueError: one of them is out of range.
    """

    tolerance: float = 0.1
    loss_weight: float = 1.0
    curriculum: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tolerance", "loss_weight"):
            check_at_least_zero(name, getattr(self, name))
        if not 0 <= self.curriculum <= 1:
            raise ValueError(f"curriculum must lie in [0, 1], got {self.curriculum}")
