"""The options that all SAR networks have."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from dynbackbones.backbones.guidance import KINDS as GUIDANCE_KINDS
from dynbackbones.backbones.resnet import check_choice
from dynbackbones.backbones.sar.schedules import TARGET_SCHEDULES

BASES = ("strided", "dilated")
LOSS_REDUCTIONS = ("batch", "sample", "group")
LOSS_RATES = ("sampled", "expected")
REGIONS_PER = ("block", "stage")


@dataclass(frozen=True, kw_only=True)
class SAROptions:
    """What a SAR network is made of and how its selectors are trained.

    Attributes:
        groups, base, base_scale, alpha, beta, cell_size, grid_size, regions_per, target_rate,
            target_schedule, temperature, loss_weight, loss_reduction, loss_rate, track_target,
            guidance, guidance_classes, guidance_weight, selector_margin: see `SARResNet`.

    Raises:
        ValueError: one of them has a wrong value.
    """

    groups: int | None = None
    base: str = "strided"
    base_scale: int = 2
    alpha: int = 2
    beta: float = 1
    cell_size: Sequence[int] = (4, 4, 7)
    grid_size: int | None = None
    regions_per: str = "block"
    target_rate: float = 0.5
    target_schedule: str = "ramp"
    temperature: tuple[float, float] = (1.0, 0.01)
    loss_weight: float = 1.0
    loss_reduction: str = "batch"
    loss_rate: str = "sampled"
    track_target: bool = False
    guidance: str = "none"
    guidance_classes: Sequence[int] = ()
    guidance_weight: float = 0.25
    selector_margin: float = 9.0

    def __post_init__(self) -> None:
        check_choice("base", self.base, BASES)
        check_choice("base_scale", self.base_scale, (2, 4))
        check_choice("regions_per", self.regions_per, REGIONS_PER)
        check_choice("target_schedule", self.target_schedule, TARGET_SCHEDULES)
        check_choice("loss_reduction", self.loss_reduction, LOSS_REDUCTIONS)
        check_choice("loss_rate", self.loss_rate, LOSS_RATES)
        check_choice("guidance", self.guidance, GUIDANCE_KINDS)
        self._check_guidance()
        self._check_schedules()
        self._check_branches()
        self._check_regions()

    def _check_guidance(self) -> None:
        classes = self.guidance_classes
        numbers = isinstance(classes, Sequence) and all(
            isinstance(c, int) and c >= 0 for c in classes
        )
        if not numbers:
            raise ValueError(f"guidance_classes must be labels from 0 on, got {classes!r}")
        if bool(classes) != (self.guidance == "classes"):
            raise ValueError(
                "guidance_classes say what guides with guidance='classes', and with nothing else: "
                f"got {tuple(classes)} with guidance={self.guidance!r}"
            )

    def _check_schedules(self) -> None:
        if not isinstance(self.target_rate, Real) or not 0 < self.target_rate <= 1:
            raise ValueError(f"target_rate must lie in (0, 1], got {self.target_rate!r}")
        pair = isinstance(self.temperature, Sequence) and len(self.temperature) == 2
        if not pair or not all(isinstance(t, Real) and t > 0 for t in self.temperature):
            raise ValueError(f"temperature must be two positive numbers, got {self.temperature!r}")
        weights = {"loss_weight": self.loss_weight, "guidance_weight": self.guidance_weight}
        for name, weight in weights.items():
            if not isinstance(weight, Real) or not weight >= 0:
                raise ValueError(f"{name} must not be negative, got {weight!r}")

    def _check_branches(self) -> None:
        positive = {"alpha": self.alpha} | ({} if self.groups is None else {"groups": self.groups})
        for name, value in positive.items():
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {self.beta!r}")

    def _check_regions(self) -> None:
        cells, grid = self.cell_size, self.grid_size
        listed = isinstance(cells, Sequence) and not isinstance(cells, str)
        if not listed or not all(isinstance(c, int) and c >= 1 for c in cells):
            raise ValueError(f"cell_size must be positive integers, got {cells!r}")
        if grid is not None and not (isinstance(grid, int) and grid >= 1):
            raise ValueError(f"grid_size must be a positive integer or None, got {grid!r}")


def check_cells(options: SAROptions, stages: int) -> None:
    """Raises a ValueError unless there is an edge of regions for each SAR stage."""
    if len(options.cell_size) != stages:
        raise ValueError(
            f"cell_size must be {stages} positive integers, one for each stage with regions, got "
            f"{options.cell_size!r}"
        )


def with_defaults(options: SAROptions, **defaults: Any) -> SAROptions:
    """The options, with values for those that are None."""
    return replace(
        options, **{name: v for name, v in defaults.items() if getattr(options, name) is None}
    )
