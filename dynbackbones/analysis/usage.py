"""Which residual blocks images use: figures of a dataset, and images sorted by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dynbackbones.analysis.canvas import Canvas
from dynbackbones.backbones.decisions import Decisions
from dynbackbones.policy.statistics import PolicyStatistics

THUMBNAIL = 1.3  # inches; sizes below are inches too
TITLE_HEIGHT = 0.28
HEADER_HEIGHT = 0.45
GAP = 0.08


@dataclass
class UsageTable:
    """Block usage of a dataset, from the decisions of forward passes.

    Attributes:
        statistics: of the policies.
        macs: (N,) of each update.
        block_names: ``"res2_block1"`` ...
    """

    statistics: PolicyStatistics = field(default_factory=PolicyStatistics)
    macs: list[Tensor] = field(default_factory=list)
    block_names: tuple[str, ...] = ()

    def update(self, decisions: Decisions) -> None:
        """Adds the decisions of a forward pass.

        Raises:
            ValueError: they are not about blocks.
        """
        blocks = decisions.blocks()
        if blocks is None:
            raise ValueError(
                "block usage needs decisions about blocks, as those of a BlockDrop network, got "
                f"{type(decisions).__name__}"
            )
        self.statistics.update(blocks.actions)
        self.macs.append(decisions.macs)
        self.block_names = blocks.names

    @property
    def blocks(self) -> Tensor:
        """(images,) number of blocks kept."""
        return self.statistics.all.sum(dim=1)

    def to_dict(self) -> dict:
        """All figures, for JSON; ``gmacs`` are 10^9 multiply-accumulates per image."""
        figures = self.statistics.to_dict()
        gmacs = torch.cat(self.macs) / 1e9
        return {
            "images": figures["samples"],
            "num_blocks": figures["num_actions"],
            "block_usage": figures["mean_usage"],
            "block_usage_std": figures["std_usage"],
            "blocks": figures["mean_actions"],
            "blocks_std": figures["std_actions"],
            "min_blocks": figures["min_actions"],
            "max_blocks": figures["max_actions"],
            "distinct_policies": figures["distinct_policies"],
            "largest_policy_share": figures["largest_policy_share"],
            "policy_entropy_bits": figures["policy_entropy_bits"],
            "gmacs": float(gmacs.mean()),
            "gmacs_std": float(gmacs.std(correction=0)),
            "usage_per_block": dict(
                zip(self.block_names, figures["usage_per_action"], strict=True)
            ),
        }

    def table(self) -> str:
        """The figures as text, with a bar for each block."""
        figures = self.to_dict()
        lines = [
            f"images               {figures['images']}",
            f"blocks kept          {figures['blocks']:.2f} +- {figures['blocks_std']:.2f} of "
            f"{figures['num_blocks']} ({figures['min_blocks']} to {figures['max_blocks']})",
            f"GMACs per image      {figures['gmacs']:.3g} +- {figures['gmacs_std']:.2g} "
            f"(one multiply-accumulate counts as one)",
            f"distinct policies    {figures['distinct_policies']}, the most frequent one for "
            f"{figures['largest_policy_share']:.0%} of the images",
            f"entropy of policies  {figures['policy_entropy_bits']:.2f} bits",
        ]
        for name, share in figures["usage_per_block"].items():
            lines.append(f"{name:<20} {share:>4.0%} {'#' * round(40 * share)}")
        return "\n".join(lines)


def save_usage_picture(
    path: str | Path,
    images: Sequence[np.ndarray],
    blocks: Tensor | Sequence[int],
    *,
    num_blocks: int | None = None,
    titles: Sequence[str] | None = None,
    columns: int = 8,
    limit: int = 48,
) -> Path:
    """Writes a PNG: images from those that use the least blocks to those that use the most.

    Args:
        path: of the PNG; its folder is created.
        images: each (H, W, 3) uint8, RGB.
        blocks: number of blocks that each image keeps.
        num_blocks: K, shown in the heading.
        titles: shown above each image beside its number of blocks, for example its class.
        columns: images side by side.
        limit: of images shown; of more, those at equal distances in the order are taken.

    Returns:
        ``path``.

    Raises:
        UserError: matplotlib is not installed.
        ValueError: there are no images, the lengths differ, or ``columns`` or ``limit`` is not
            positive.
    """
    counts = torch.as_tensor(blocks).flatten().tolist()
    _check_picture(images, counts, titles, columns, limit)
    chosen = _spread(sorted(range(len(counts)), key=counts.__getitem__), limit)
    columns = min(columns, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    width = GAP + columns * (THUMBNAIL + GAP)
    height = HEADER_HEIGHT + rows * (TITLE_HEIGHT + THUMBNAIL) + GAP
    page = Canvas(width, height)
    of = "" if num_blocks is None else f" of {num_blocks}"
    heading = (
        f"{min(counts)} to {max(counts)}{of} blocks, {sum(counts) / len(counts):.1f} on average"
    )
    page.text(GAP, 0.1, heading, fontsize=9, fontweight="bold")
    for place, index in enumerate(chosen):
        row, column = divmod(place, columns)
        left = GAP + column * (THUMBNAIL + GAP)
        top = HEADER_HEIGHT + row * (TITLE_HEIGHT + THUMBNAIL) + TITLE_HEIGHT
        axes = page.panel(left, top, THUMBNAIL, THUMBNAIL)
        axes.imshow(images[index])
        axes.set_axis_off()
        title = f"{counts[index]}" if titles is None else f"{counts[index]}  {titles[index]}"
        axes.set_title(title, fontsize=7, loc="left", pad=2)
    return page.save(path)


def _check_picture(images, counts, titles, columns: int, limit: int) -> None:
    if not len(images):
        raise ValueError("images must hold at least one image, got none")
    for name, values in (("blocks", counts), ("titles", titles)):
        if values is not None and len(values) != len(images):
            raise ValueError(f"{name} has {len(values)} entries for {len(images)} images")
    for name, value in (("columns", columns), ("limit", limit)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _spread(order: list[int], limit: int) -> list[int]:
    """At most ``limit`` entries at equal distances, the first and the last among them."""
    if len(order) <= limit:
        return order
    return [order[round(i * (len(order) - 1) / max(limit - 1, 1))] for i in range(limit)]
