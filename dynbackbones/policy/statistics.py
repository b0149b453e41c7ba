"""What policies look like over many samples: a mean alone hides whether they differ at all."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dynbackbones.policy.actions import is_binary


@dataclass
class PolicyStatistics:
    """Collects the policies of many samples.

    Attributes:
        policies: (samples, K) bool of each update, on the CPU.
    """

    policies: list[Tensor] = field(default_factory=list)

    def update(self, policy: Tensor) -> None:
        """Adds the policies of a batch: (N, K) of 0 and 1.

        Raises:
            ValueError: it has another shape than the ones before, or other values.
        """
        if policy.dim() != 2 or 0 in policy.shape:
            raise ValueError(
                f"policy must be (samples, actions), neither of them none, got "
                f"{tuple(policy.shape)}"
            )
        if not is_binary(policy):
            raise ValueError("policy must contain only 0 and 1")
        if self.policies and policy.shape[1] != self.policies[0].shape[1]:
            raise ValueError(
                f"policy has {policy.shape[1]} actions, the ones before have "
                f"{self.policies[0].shape[1]}"
            )
        self.policies.append(policy.detach().cpu().bool())

    @property
    def all(self) -> Tensor:
        """(samples, K) bool.

        Raises:
            ValueError: there were no samples.
        """
        if not self.policies:
            raise ValueError("there are no policies to describe; call update first")
        return torch.cat(self.policies)

    @property
    def usage(self) -> Tensor:
        """(samples,) share of the actions that each sample takes."""
        return self.all.double().mean(dim=1)

    @property
    def usage_per_action(self) -> Tensor:
        """(K,) share of the samples that take each action."""
        return self.all.double().mean(dim=0)

    @property
    def frequencies(self) -> Tensor:
        """Share of the samples that share each distinct policy, in falling order."""
        counts = self.all.unique(dim=0, return_counts=True)[1].double()
        return (counts / counts.sum()).sort(descending=True).values

    @property
    def entropy(self) -> float:
        """Entropy in bits of the distribution of samples over distinct policies.

        0 if all samples share one policy, log2 of their number if no two do.
        """
        frequencies = self.frequencies
        return float(-(frequencies * frequencies.log2()).sum()) + 0.0

    def to_dict(self) -> dict[str, int | float | list[float]]:
        """All figures, for JSON; counts of actions as well as shares."""
        usage, num_actions = self.usage, self.all.shape[1]
        spread = float(usage.std(correction=0))
        return {
            "samples": len(usage),
            "num_actions": num_actions,
            "mean_usage": float(usage.mean()),
            "std_usage": spread,
            "mean_actions": float(usage.mean()) * num_actions,
            "std_actions": spread * num_actions,
            "min_actions": round(float(usage.min()) * num_actions),
            "max_actions": round(float(usage.max()) * num_actions),
            "distinct_policies": len(self.frequencies),
            "largest_policy_share": float(self.frequencies[0]),
            "policy_entropy_bits": self.entropy,
            "usage_per_action": self.usage_per_action.tolist(),
        }
