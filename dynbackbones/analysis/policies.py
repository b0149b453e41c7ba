"""Images grouped by the policy that they were given: BlockDrop's figure 2.3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from dynbackbones.analysis.canvas import Canvas

THUMBNAIL = 1.0  # inches; sizes below are inches too
TITLE_HEIGHT = 0.25
GAP = 0.08


@dataclass(frozen=True)
class PolicyGroup:
    """Images that share a policy.

    Attributes:
        policy: (K,) bool, what they run.
        members: indices of the images, in their order.
    """

    policy: Tensor
    members: tuple[int, ...]

    @property
    def text(self) -> str:
        """The policy as ones and zeros."""
        return "".join("1" if kept else "0" for kept in self.policy.tolist())


def group_by_policy(policies: Tensor) -> list[PolicyGroup]:
    """Images with identical policies, the largest group first.

    Args:
        policies: (N, K) bool.

    Example:
        >>> import torch
        >>> from dynbackbones.analysis import group_by_policy
        >>> groups = group_by_policy(torch.tensor([[1, 0], [1, 1], [1, 0]]).bool())
        >>> [(group.text, group.members) for group in groups]
        [('10', (0, 2)), ('11', (1,))]
    """
    members: dict[tuple[bool, ...], list[int]] = {}
    for index, policy in enumerate(policies.tolist()):
        members.setdefault(tuple(policy), []).append(index)
    groups = [PolicyGroup(policies[found[0]], tuple(found)) for found in members.values()]
    return sorted(groups, key=lambda group: -len(group.members))


def save_policy_picture(
    path: str | Path,
    images: Sequence[np.ndarray],
    policies: Tensor,
    *,
    of: Tensor | None = None,
    rows: int = 6,
    columns: int = 10,
) -> Path:
    """Writes a PNG with a row of images for each of the most frequent policies.

    Args:
        path: of the PNG; its folder is created.
        images: each (H, W, 3) uint8, RGB.
        policies: (N, K) bool, of the images.
        of: (M, K) of a whole dataset, of which the images are a part; None where they are all.
        rows: policies that are shown.
        columns: images of each, the first ones.

    Returns:
        ``path``.

    Raises:
        UserError: matplotlib is not installed.
        ValueError: there are no images, or as many policies.
    """
    if not len(images) or len(images) != len(policies):
        raise ValueError(
            f"policies must be those of the images, at least one, got {len(policies)} for "
            f"{len(images)} images"
        )
    of = policies if of is None else of
    members = {group.text: group.members for group in group_by_policy(policies)}
    groups = [group for group in group_by_policy(of) if group.text in members][:rows]
    columns = min(columns, max(len(members[group.text]) for group in groups))
    width = max(GAP + columns * (THUMBNAIL + GAP), 4.0)
    height = GAP + len(groups) * (TITLE_HEIGHT + THUMBNAIL + GAP)
    page = Canvas(width, height)
    for row, group in enumerate(groups):
        top = GAP + row * (TITLE_HEIGHT + THUMBNAIL + GAP)
        share = f"{len(group.members) / len(of):.1%} of {len(of)} images"
        title = f"{share}: {int(group.policy.sum())} blocks, {group.text}"
        page.text(GAP, top + 0.05, title, fontsize=7)
        for column, member in enumerate(members[group.text][:columns]):
            left = GAP + column * (THUMBNAIL + GAP)
            axes = page.panel(left, top + TITLE_HEIGHT, THUMBNAIL, THUMBNAIL)
            axes.imshow(images[member])
            axes.set_axis_off()
    return page.save(path)
