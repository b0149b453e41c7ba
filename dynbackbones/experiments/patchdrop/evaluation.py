"""Learned patches beside fixed ones with as many patches on average."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dynbackbones.classifiers import PatchDrop
from dynbackbones.experiments.patchdrop.data import Split
from dynbackbones.layers.regions import RegionGrid
from dynbackbones.policy import PolicyStatistics, greedy_search, remembered

BATCH = 500
KINDS = ("horizontal", "vertical", "stochastic", "random")
SEARCHED = "best"


@torch.no_grad()
def evaluate(net: PatchDrop, split: Split, kind: Any = None, rate: float = 1.0) -> dict[str, Any]:
    """Accuracy in percent, mean patches, pixel rate and MACs; ``policies`` and ``right`` by image.

    Args:
        net: the network.
        split: the images.
        kind, rate: of ``net.select``; None for what the network decides itself.
    """
    net.eval()
    right, decisions = [], []
    for start in range(0, len(split.labels), BATCH):
        images = split.normalised(slice(start, start + BATCH), None)
        with nullcontext() if kind is None else net.select(kind, rate=rate, seed=start):
            guess = net(images).argmax(dim=1)
        right.append(guess == split.labels[start : start + BATCH])
        decisions.append(net.decisions)
    right, policies = torch.cat(right), torch.cat([entry.policy for entry in decisions])
    return {
        "accuracy": 100 * float(right.float().mean()),
        "patches": float(policies.sum(dim=1).float().mean()),
        "pixel_rate": float(torch.cat([entry.pixel_rate for entry in decisions]).mean()),
        "mmacs": float(torch.cat([entry.macs for entry in decisions]).mean()) / 1e6,
        "policies": policies,
        "right": right,
    }


def plain(result: dict[str, Any]) -> dict[str, Any]:
    """Without what is known of each image."""
    return {key: value for key, value in result.items() if key not in ("policies", "right")}


def described(result: dict[str, Any], split: Split, net: PatchDrop) -> dict[str, Any]:
    """A learned policy's figures: how it differs between images, and what it finds."""
    policies, right = result["policies"], result["right"]
    statistics = PolicyStatistics()
    statistics.update(policies)
    figures = {**plain(result), **statistics.to_dict()}
    counts = policies.sum(dim=1)
    order = counts.float().argsort(stable=True)
    figures["accuracy_by_quarter"] = [100 * float(right[p].float().mean()) for p in order.chunk(4)]
    figures["patches_by_quarter"] = [float(counts[p].float().mean()) for p in order.chunk(4)]
    if split.boxes is not None:
        touched = touched_cells(split.boxes, tuple(split.images.shape[-2:]), net.grid)
        figures["touched_cells"] = float(touched.sum(dim=1).float().mean())
        figures["touched_chosen"] = float((touched & policies).sum() / touched.sum())
    return figures


def touched_cells(boxes: Tensor, size: tuple[int, int], grid: int) -> Tensor:
    """(N, P) bool, patches that the boxes (N, 4) of top, left, height and width lie in."""
    cells = RegionGrid(size, grid_size=grid)
    inside = []
    for axis, edges in ((0, cells.row_edges), (1, cells.col_edges)):
        start, end = boxes[:, axis, None], (boxes[:, axis] + boxes[:, axis + 2])[:, None]
        inside.append((start < edges[1:]) & (end > edges[:-1]))
    return (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1)


def best_fixed(net: PatchDrop, calibration: Split) -> Callable[[int], Tensor]:
    """The best policy for all images by its number of patches, searched on other images."""
    score = remembered(lambda actions: evaluate(net, calibration, actions)["accuracy"])
    return lambda count: greedy_search(score, net.grid**2, count)


def at_equal_patches(
    net: PatchDrop, val: Split, calibration: Split, patches: float
) -> dict[str, dict[str, Any]]:
    """Fixed policies at a mean number of patches.

    Where it is not whole, each image takes the next whole number below or above, at random so that
    the mean is met; accuracies are what is expected of that.
    """
    total, search = net.grid**2, best_fixed(net, calibration)
    low, high = math.floor(patches + 1e-6), math.ceil(patches - 1e-6)
    share = 0.0 if high == low else (patches - low) / (high - low)
    rows = {}
    for kind in (*KINDS, SEARCHED):
        ends = [
            evaluate(net, val, search(count) if kind == SEARCHED else kind, count / total)
            for count in (low, high)
        ]
        rows[kind] = {
            key: (1 - share) * ends[0][key] + share * ends[1][key] for key in plain(ends[0])
        }
    return rows
