"""Policies that override a network's own decisions: baselines, latency, tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynbackbones.backbones.selections import check_kind, check_rate
from dynbackbones.policy.actions import is_binary

KINDS = ("all", "none", "first", "random", "distributed")


@dataclass(frozen=True)
class BlockSelection:
    """Which residual blocks to run instead of the learned ones.

    Attributes:
        kind: ``"all"``, ``"none"``, ``"first"`` (the first blocks of the network),
            ``"distributed"`` (the first blocks of each stage, equally many from each as far as it
            has them), ``"random"`` (drawn for each image of a batch); or a policy of 0 and 1 of
            shape (K,) for all images or (N, K).
        rate: share of blocks that the last three kinds keep, in [0, 1], rounded up to blocks as
            BlockDrop's table 1 does.
        seed: of ``"random"``.

    Raises:
        ValueError: an unknown kind, a rate out of range, or a policy that is not one.
    """

    kind: "str | Tensor | Sequence"
    rate: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.kind, str):
            check_kind(self.kind, KINDS, "a policy of 0 and 1")
        else:
            policy = torch.as_tensor(self.kind)
            if policy.dim() not in (1, 2):
                raise ValueError(
                    f"selection must be (blocks,) or (images, blocks), got {tuple(policy.shape)}"
                )
            if not is_binary(policy):
                raise ValueError("selection must contain only 0 and 1")
            object.__setattr__(self, "kind", policy.bool())
        check_rate(self.rate)

    def check(self, num_blocks: int) -> None:
        """Makes sure that a given policy fits a network.

        Raises:
            ValueError: it is for another number of blocks.
        """
        if isinstance(self.kind, Tensor) and self.kind.shape[-1] != num_blocks:
            raise ValueError(
                f"selection has {self.kind.shape[-1]} entries for each image, but the network "
                f"has {num_blocks} blocks"
            )

    def policy(self, images: int, blocks: Sequence[int]) -> Tensor:
        """The policy of a batch: (images, K) bool.

        Args:
            images: N.
            blocks: number of blocks of each stage; K is their sum.

        Raises:
            ValueError: a given policy is for another number of images or blocks.
        """
        total = sum(blocks)
        if isinstance(self.kind, Tensor):
            return self._given(images, total)
        if self.kind == "random":
            generator = torch.Generator().manual_seed(self.seed)
            scores = torch.rand(images, total, generator=generator)
            return scores.argsort(dim=1).argsort(dim=1) < self._count(total)
        return self._pattern(blocks).expand(images, total)

    def _given(self, images: int, total: int) -> Tensor:
        self.check(total)
        if self.kind.dim() == 2 and len(self.kind) not in (1, images):
            raise ValueError(f"selection has {len(self.kind)} policies for {images} images")
        return self.kind.expand(images, total)

    def _pattern(self, blocks: Sequence[int]) -> Tensor:
        """One policy for all images: (K,) bool."""
        total = sum(blocks)
        if self.kind == "distributed":
            counts = _dealt(self._count(total), blocks)
            return torch.cat([torch.arange(n) < c for n, c in zip(blocks, counts, strict=True)])
        count = {"all": total, "none": 0}.get(self.kind, self._count(total))
        return torch.arange(total) < count

    def _count(self, total: int) -> int:
        return math.ceil(self.rate * total - 1e-6)


def _dealt(count: int, blocks: Sequence[int]) -> list[int]:
    """Deals ``count`` out to the stages one at a time, passing over those that are full."""
    counts = [0] * len(blocks)
    while count:
        for index, size in enumerate(blocks):
            if count and counts[index] < size:
                counts[index] += 1
                count -= 1
    return counts
