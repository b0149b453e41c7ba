"""Where to look and how often instead of what was learned: baselines and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dynbackbones.backbones.selections import check_kind, check_rate
from dynbackbones.classifiers.glance_focus.decisions import FocusChoices

KINDS = ("all", "none", "first", "center", "random")


@dataclass(frozen=True)
class FocusSelection:
    """Where to look and how often instead of what was learned; thresholds do not count.

    Attributes:
        kind: ``"all"``, every step at the learned places; ``"none"``, the glance alone;
            ``"first"``, a share of the steps at the learned places; ``"center"`` and ``"random"``,
            that share at these places; or `FocusChoices`, as `FocusDecisions.choices` returns them.
        rate: share of the steps, in [0, 1], rounded; the glance is always taken.
        seed: of ``"random"``.

    Raises:
        ValueError: an unknown kind, a rate out of range, or choices that are none.
    """

    kind: Any
    rate: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if not isinstance(self.kind, FocusChoices):
            check_kind(self.kind if isinstance(self.kind, str) else None, KINDS, "FocusChoices")
            return
        corners, steps = self.kind
        if corners.dim() != 3 or corners.shape[2] != 2 or steps.shape != corners.shape[:1]:
            raise ValueError(
                "selection must be corners (images, steps - 1, 2) and steps (images,), got "
                f"{tuple(corners.shape)} and {tuple(steps.shape)}"
            )

    def steps(self, images: int, most: int) -> Tensor:
        """(images,) how many steps each takes, of ``most``.

        Raises:
            ValueError: given choices are for other images or steps.
        """
        if isinstance(self.kind, FocusChoices):
            corners, steps = self.kind
            inside = bool(((steps >= 1) & (steps <= most)).all())
            if corners.shape[:2] != (images, most - 1) or not inside:
                raise ValueError(
                    f"selection is for {corners.shape[0]} images and {corners.shape[1] + 1} steps "
                    f"(between {int(steps.min())} and {int(steps.max())} of them), but there are "
                    f"{images} images and {most} steps"
                )
            return steps.cpu()
        rate = {"all": 1.0, "none": 0.0}.get(self.kind, self.rate)
        return torch.full((images,), max(1, round(rate * most)))

    def places(self, images: int, most: int) -> Tensor | None:
        """(images, most - 1, 2) in [0, 1]; None for the learned ones or those given in pixels."""
        if self.kind == "center":
            return torch.full((images, most - 1, 2), 0.5)
        if self.kind == "random":
            generator = torch.Generator().manual_seed(self.seed)
            return torch.rand(images, most - 1, 2, generator=generator)
        return None
