"""Which blocks a classifier runs, as a metric of mmengine's."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.registry import METRICS

from dynbackbones.integrations.openmmlab.policy_classifiers import PolicyUsage


@METRICS.register_module()
class BlockUsage(PolicyUsage):
    """Block usage, MACs and variety of the policies of a `BlockDropClassifier`.

    ``blocks``, ``min_blocks``, ``max_blocks``, ``block_usage`` (share of the blocks), ``gmacs``
    (10^9 multiply-accumulates of the backbone; the policy network's belong to it where it ran) and
    their spreads ``_std``; ``distinct_policies``, ``largest_policy_share`` and
    ``policy_entropy_bits``, see `PolicyStatistics`.
    """

    noun = "blocks"
    field = "block_policy"

    def shares(self, figures: Mapping[str, float], results: list) -> dict[str, float]:
        """``block_usage`` and its spread."""
        return {"block_usage": figures["mean_usage"], "block_usage_std": figures["std_usage"]}
