"""What a backbone chose and spent per image and over a dataset, the same from every engine."""

from collections.abc import Mapping, Sequence

import torch

from dynbackbones.backbones.blockdrop.decisions import BlockDropDecisions
from dynbackbones.backbones.decisions import Decisions
from dynbackbones.policy.statistics import PolicyStatistics

_BLOCK = "block_usage_"


def image_values(decisions: Decisions) -> dict[str, list[float]]:
    """Named values for each image of a forward pass: MACs, rates, and the blocks of a policy."""
    summary = decisions.summary(per_block=isinstance(decisions, BlockDropDecisions))
    return {name: values.tolist() for name, values in summary.items()}


def dataset_values(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Means over the images of a dataset; where blocks were chosen, also how the choices differ.

    Args:
        values: what `image_values` returned, strung together.

    Returns:
        The means under the same names. For a BlockDrop network also ``macs_std`` and
        ``block_usage_std`` over the images, ``distinct_policies``, ``largest_policy_share``, and
        ``policy_entropy_bits`` of the distribution of images over policies.
    """
    means = {name: sum(entries) / len(entries) for name, entries in values.items()}
    blocks = {name: means.pop(name) for name in list(means) if name.startswith(_BLOCK)}
    if not blocks:
        return means
    policies = PolicyStatistics()
    policies.update(torch.tensor([values[name] for name in blocks]).T)
    figures = policies.to_dict()
    return {
        **means,
        "macs_std": float(torch.tensor(values["macs"], dtype=torch.float64).std(correction=0)),
        "block_usage_std": figures["std_usage"],
        "distinct_policies": float(figures["distinct_policies"]),
        "largest_policy_share": figures["largest_policy_share"],
        "policy_entropy_bits": figures["policy_entropy_bits"],
        **blocks,
    }


def headline(name: str) -> bool:
    """Whether a value is for a line of text; those of single blocks are for files."""
    return not name.startswith(_BLOCK) or name == f"{_BLOCK}std"
