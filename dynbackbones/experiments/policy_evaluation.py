"""A learned policy of a `BlockDropClassifier` beside fixed ones with as many blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS, MODELS
from torch import Tensor

from dynbackbones import checkpoints
from dynbackbones.backbones.blockdrop.selection import BlockSelection
from dynbackbones.integrations.openmmlab.blockdrop_classifier.classifier import BlockDropClassifier
from dynbackbones.policy import PolicyStatistics, greedy_search, remembered

BATCH = 250
PATTERNS = ("first", "random", "distributed")
SEARCHED = "best"


class Split(NamedTuple):
    """A dataset in memory.

    Attributes:
        images: (N, C, H, W) as the dataset gives them, not normalised.
        labels: (N,).
    """

    images: Tensor
    labels: Tensor


def load_split(dataset: Mapping[str, Any]) -> Split:
    """Reads a dataset of images of one size, given by its config."""
    samples = list(DATASETS.build(dict(dataset)))
    images = torch.stack([sample["inputs"] for sample in samples])
    labels = torch.cat([sample["data_samples"].gt_label for sample in samples])
    return Split(images, labels)


def load_classifier(cfg: Config, checkpoint: str) -> BlockDropClassifier:
    """A config's classifier with a checkpoint's weights, in evaluation mode."""
    model = MODELS.build(cfg.model)
    model.load_state_dict(checkpoints.state_dict_of(checkpoints.load(checkpoint), checkpoint))
    return model.eval()


@torch.no_grad()
def evaluate_actions(
    model: BlockDropClassifier, split: Split, actions: Tensor | None = None
) -> dict[str, Any]:
    """Runs the network on a dataset.

    Args:
        model: in evaluation mode.
        split: the dataset.
        actions: (K,) or (N, K) of 0 and 1; None for the learned policy.

    Returns:
        ``accuracy`` in percent, ``gmacs`` (10^9 multiply-accumulates of the backbone for each
        image, on average; the policy network's only where it decides) and ``policies`` (N, K).
    """
    right, macs, policies = 0, 0.0, []
    for start in range(0, len(split.labels), BATCH):
        part = slice(start, start + BATCH)
        images = model.data_preprocessor({"inputs": split.images[part]})["inputs"]
        images = images.contiguous(memory_format=model.memory_format)
        if actions is None:
            scores = model.head(model.extract_feat(images))
        else:
            chosen = actions[part] if actions.dim() == 2 else actions.expand(len(images), -1)
            scores = model.scores(images, chosen)
        right += int((scores.argmax(dim=1).cpu() == split.labels[part]).sum())
        macs += float(model.backbone.decisions.macs.sum())
        policies.append(model.backbone.decisions.policy)
    images = len(split.labels)
    return {
        "accuracy": 100 * right / images,
        "gmacs": macs / images / 1e9,
        "policies": torch.cat(policies),
    }


def compare_policies(model: BlockDropClassifier, val: Split, calibration: Split) -> dict[str, Any]:
    """The learned policy, all blocks, and fixed policies with as many blocks on average.

    Args:
        model: with a learned policy, in evaluation mode.
        val: what accuracies are of.
        calibration: what the best fixed policy is searched on.

    Returns:
        ``full``, ``learned`` and each fixed policy; plain data, see `_at_usage`.
    """
    num_blocks, counts = model.backbone.num_blocks, model.backbone.block_counts
    learned = evaluate_actions(model, val)
    statistics = PolicyStatistics()
    statistics.update(learned.pop("policies"))
    usage = statistics.to_dict()
    blocks = usage["mean_actions"]

    def pattern(kind: str) -> Callable[[int], Tensor]:
        return lambda count: BlockSelection(kind, count / num_blocks).policy(
            len(val.labels), counts
        )

    score = remembered(lambda actions: evaluate_actions(model, calibration, actions)["accuracy"])
    policies = {kind: pattern(kind) for kind in PATTERNS}
    policies[SEARCHED] = lambda count: greedy_search(score, num_blocks, count)
    return {
        "full": _plain(evaluate_actions(model, val, torch.ones(num_blocks, dtype=torch.bool))),
        "learned": {**learned, **usage},
        **{name: _at_usage(model, val, blocks, make) for name, make in policies.items()},
    }


def _at_usage(
    model: BlockDropClassifier, val: Split, blocks: float, make: Callable[[int], Tensor]
) -> dict[str, Any]:
    """A fixed policy at a mean number of blocks.

    ``up`` and ``down`` have the next whole numbers of blocks. ``accuracy`` and ``gmacs`` are what
    is expected if each image takes one of the two at random, so that the mean is met.
    """
    # Whole but for rounding must stay whole.
    low, high = math.floor(blocks + 1e-6), math.ceil(blocks - 1e-6)
    down, up = (
        _plain(evaluate_actions(model, val, make(count))) | {"blocks": count}
        for count in (low, high)
    )
    share = 0.0 if high == low else (blocks - low) / (high - low)
    mixed = {key: (1 - share) * down[key] + share * up[key] for key in ("accuracy", "gmacs")}
    return {**mixed, "blocks": blocks, "down": down, "up": up}


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    """Without the policies of all images, but with the one that they share."""
    policies = result.pop("policies")
    if (policies == policies[0]).all():
        result["policy"] = policies[0].int().tolist()
    return result
