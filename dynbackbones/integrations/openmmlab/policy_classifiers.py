"""What mmpretrain's classifiers that learn a policy stage by stage share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.structures import DataSample
from torch import Tensor

from dynbackbones.policy import PolicyStatistics


def labels_of(data_samples: Sequence[DataSample]) -> Tensor:
    """(N,) classes of a batch."""
    return torch.cat([sample.gt_label for sample in data_samples])


class PolicyUsage(BaseMetric):
    """How many actions policies take, their variety, and what that costs; see `PolicyStatistics`.

    ``NOUN`` (mean number), ``NOUN_std``, ``min_NOUN``, ``max_NOUN``, ``gmacs`` (10^9
    multiply-accumulates), ``gmacs_std``, ``distinct_policies``, ``largest_policy_share`` and
    ``policy_entropy_bits``.
    """

    default_prefix = "policy"
    noun: ClassVar[str]
    field: ClassVar[str]
    """Of samples, which has the policy (K,)."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Takes the policies of a batch."""
        for sample in data_samples:
            self.results.append((sample[self.field].cpu(), sample["macs"], *self.others(sample)))

    def others(self, sample: dict) -> tuple[float, ...]:
        """What else is kept of a sample."""
        return ()

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The figures over all images."""
        statistics = PolicyStatistics()
        statistics.update(torch.stack([entry[0] for entry in results]))
        figures, noun = statistics.to_dict(), self.noun
        gmacs = torch.tensor([entry[1] for entry in results], dtype=torch.float64) / 1e9
        return {
            noun: figures["mean_actions"],
            f"{noun}_std": figures["std_actions"],
            f"min_{noun}": figures["min_actions"],
            f"max_{noun}": figures["max_actions"],
            "gmacs": float(gmacs.mean()),
            "gmacs_std": float(gmacs.std(correction=0)),
            "distinct_policies": figures["distinct_policies"],
            "largest_policy_share": figures["largest_policy_share"],
            "policy_entropy_bits": figures["policy_entropy_bits"],
            **self.shares(figures, results),
        }

    def shares(self, figures: Mapping[str, float], results: list) -> dict[str, float]:
        """What the method calls the share of actions taken."""
        return {}
