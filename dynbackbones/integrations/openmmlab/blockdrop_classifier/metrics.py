"""Which blocks a classifier runs, as a metric of mmengine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from dynbackbones.policy import PolicyStatistics


@METRICS.register_module()
class BlockUsage(BaseMetric):
    """Block usage, MACs and variety of the policies of a `BlockDropClassifier`.

    ``blocks``, ``min_blocks``, ``max_blocks``, ``block_usage`` (share of the blocks), ``gmacs``
    (10^9 multiply-accumulates of the backbone; the policy network's belong to it where it ran) and
    their spreads ``_std``; ``distinct_policies``, ``largest_policy_share`` and
    ``policy_entropy_bits``, see `PolicyStatistics`.
    """

    default_prefix = "policy"

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Takes the policies of a batch."""
        for sample in data_samples:
            self.results.append((sample["block_policy"].cpu(), sample["macs"]))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The figures over all images."""
        statistics = PolicyStatistics()
        statistics.update(torch.stack([policy for policy, _ in results]))
        figures = statistics.to_dict()
        gmacs = torch.tensor([macs for _, macs in results], dtype=torch.float64) / 1e9
        return {
            "blocks": figures["mean_actions"],
            "blocks_std": figures["std_actions"],
            "min_blocks": figures["min_actions"],
            "max_blocks": figures["max_actions"],
            "block_usage": figures["mean_usage"],
            "block_usage_std": figures["std_usage"],
            "gmacs": float(gmacs.mean()),
            "gmacs_std": float(gmacs.std(correction=0)),
            "distinct_policies": figures["distinct_policies"],
            "largest_policy_share": figures["largest_policy_share"],
            "policy_entropy_bits": figures["policy_entropy_bits"],
        }
