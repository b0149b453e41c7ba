"""What a backbone chose and spent over a dataset, under the same names in every log and file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dynbackbones.analysis.spread import RateSpread
from dynbackbones.backbones.decisions import Decisions
from dynbackbones.policy.statistics import PolicyStatistics

_BLOCK = "block"


class DecisionMeter:
    """Means over the images of a dataset of the figures that decisions have.

    Several processes each have their own and `merge` the others' before the `result`.

    Attributes:
        passes: images that went through the network, each window, scale or flip counted.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self.passes = 0
        self._values: dict[str, list[float]] = defaultdict(list)
        self._levels: dict[str, str] = {}
        self._rate_names: dict[str, None] = {}
        self._policies = PolicyStatistics()

    def update(self, decisions: Decisions) -> None:
        """Adds the decisions of a forward pass.

        Raises:
            UserError: they come of values that are not finite.
        """
        decisions.check_finite()
        self.passes += decisions.batch.num_images
        if decisions.rate_name is not None:
            self._rate_names[decisions.rate_name] = None
        blocks = decisions.blocks()
        if blocks is not None:
            self._policies.update(blocks.actions)
        for name, (values, level) in decisions.figures().items():
            # The blocks that ran are the outcome; the regions of single blocks are for logs.
            if level != _BLOCK or blocks is not None:
                self._levels[name] = level
                self._values[name] += values.tolist()

    @classmethod
    def of_images(cls, decisions: Decisions) -> list[DecisionMeter]:
        """A meter for each image of a forward pass."""
        whole = cls()
        whole.update(decisions)
        meters = [cls() for _ in range(whole.passes)]
        for index, meter in enumerate(meters):
            meter.passes = 1
            meter._levels, meter._rate_names = dict(whole._levels), dict(whole._rate_names)
            meter._policies.policies = [p[index : index + 1] for p in whole._policies.policies]
            for name, values in whole._values.items():
                meter._values[name] = [values[index]]
        return meters

    def merge(self, others: Sequence[DecisionMeter]) -> None:
        """Adds what other meters of the same network collected."""
        for other in others:
            self.passes += other.passes
            self._rate_names |= other._rate_names
            self._levels |= other._levels
            self._policies.policies += other._policies.policies
            for name, values in other._values.items():
                self._values[name] += values

    def result(self, images: int | None = None) -> dict[str, float]:
        """The figures; empty where nothing was evaluated.

        Args:
            images: number of images, where one may have passed in several windows, scales or
                flips, whose MACs then add up. Rates are means over the passes.

        Returns:
            ``gmacs`` (10^9 multiply-accumulates per image), the rate (``activation_rate``,
            ``block_usage``) and those of stages; of a network that decides also the spread over
            images, ``gmacs_std`` and so on; of one that chooses blocks also
            ``distinct_policies``, ``largest_policy_share``, ``policy_entropy_bits`` of the
            distribution of images over policies, and the usage of each block.
        """
        if not self.passes or images == 0:
            return {}
        means = {name: sum(values) / len(values) for name, values in self._values.items()}
        once = images is None or images == self.passes
        if not once:
            means["gmacs"] = sum(self._values["gmacs"]) / images
        blocks = {name: means.pop(name) for name in self._names(_BLOCK)}
        return {**means, **(self._spreads() if once else {}), **self._policy_figures(), **blocks}

    def headline(self, images: int | None = None) -> dict[str, float]:
        """The part of `result` that belongs in a line of text: all but single blocks."""
        blocks = self._names(_BLOCK)
        return {k: v for k, v in self.result(images).items() if k not in blocks}

    @property
    def rate_names(self) -> list[str]:
        """What the rates of the decisions are called, such as ``"activation_rate"``."""
        return list(self._rate_names)

    def spread(self) -> RateSpread | None:
        """How the passes differ in their rate; None for a network that decides nothing."""
        rate = next(iter(self._rate_names), None)
        if rate is None:
            return None
        return RateSpread.of(rate, self._values[rate], self._values["gmacs"])

    @property
    def policies(self) -> Tensor | None:
        """(passes, K) bool, the blocks that ran; None for a network that chooses no blocks."""
        return self._policies.all if self._policies.policies else None

    def _names(self, level: str) -> list[str]:
        return [name for name, of in self._levels.items() if of == level]

    def _spreads(self) -> dict[str, float]:
        names = ["gmacs", *self._rate_names] if self._rate_names else []
        return {f"{name}_std": _std(self._values[name]) for name in names}

    def _policy_figures(self) -> dict[str, float]:
        if not self._policies.policies:
            return {}
        figures = self._policies.to_dict()
        names = ("distinct_policies", "largest_policy_share", "policy_entropy_bits")
        return {name: float(figures[name]) for name in names}


def _std(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).std(correction=0))


def mean_figures(decisions: Decisions, *, blocks: bool = False) -> dict[str, float]:
    """Means over a batch of the figures of its decisions.

    Args:
        decisions: of one forward pass.
        blocks: those of single blocks too.
    """
    means = {
        name: values.double().mean()
        for name, (values, level) in decisions.figures().items()
        if blocks or level != _BLOCK
    }
    return {name: float(value) for name, value in means.items()}


def format_figures(figures: Mapping[str, float]) -> str:
    """One line of text, for instance ``0.773 GMACs per image  activation_rate: 0.510``."""
    rest = "  ".join(f"{name}: {value:.3f}" for name, value in figures.items() if name != "gmacs")
    return f"{figures['gmacs']:.3f} GMACs per image  {rest}".rstrip()
