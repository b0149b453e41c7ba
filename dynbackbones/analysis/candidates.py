"""What there is to time in a network: forward passes with choices that are made before."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import Backbone, find_backbones
from dynbackbones.backbones.decisions import Decisions
from dynbackbones.backbones.dynamic import DynamicBackbone

DRAWS = 5
"""Random choices that a measurement goes through."""


@dataclass(frozen=True)
class Candidate:
    """One thing to time.

    Attributes:
        backbone: its name.
        forward: what is timed.
        execution: "sparse", "masked" or "auto"; None for a static backbone.
        rate: share of regions (activation rate) or of blocks that a random choice keeps; None for
            a static backbone.
        context: what surrounds each forward, entered and left outside of the measured time.
    """

    backbone: str
    forward: Callable[[], object]
    execution: str | None = None
    rate: float | None = None
    context: Callable[[], AbstractContextManager] = nullcontext


def candidates_of(
    name: str,
    net: nn.Module,
    images: Tensor,
    *,
    rates: Sequence[float],
    executions: Sequence[str],
    selection: str = "random",
    seed: int = 0,
) -> list[Candidate]:
    """What there is to time in one network: each execution at each rate, or a static net once.

    Args:
        name: shown in tables.
        net: in evaluation mode; a backbone of this package, a detector of torchvision with one
            inside, which then takes the images as a list, or any other network.
        images: (N, 3, H, W) input.
        rates: shares of regions or blocks that are kept.
        executions: of "sparse", "masked", "auto".
        selection: which ones; see `RegionSelection` and `BlockSelection`.
        seed: of the first of `DRAWS` choices, which take turns and are the same for every
            execution.
    """

    backbone = backbone_of(net)
    inputs = images if backbone in (net, None) else list(images)

    def forward() -> object:
        return net(inputs)

    if not isinstance(backbone, DynamicBackbone):
        return [Candidate(name, forward)]

    def context(execution: str, rate: float) -> Callable[[], AbstractContextManager]:
        # What is chosen matters for the cost of a BlockDrop network, whose blocks differ.
        draws = [_drawn(backbone, forward, selection, rate, seed + i) for i in range(DRAWS)]
        chosen = itertools.cycle(draws)

        def enter() -> AbstractContextManager:
            backbone.execution = execution
            return backbone.select(next(chosen))

        return enter

    return [
        Candidate(name, forward, execution, rate, context(execution, rate))
        for rate in rates
        for execution in executions
    ]


def backbone_of(net: nn.Module) -> Backbone | None:
    """The one backbone of this package that a network is or contains, if any.

    Raises:
        ValueError: there are several.
    """
    found = find_backbones(net)
    if len(found) > 1:
        raise ValueError(f"{type(net).__name__} has {len(found)} backbones of this package, not 1")
    return found[0] if found else None


@torch.inference_mode()
def _drawn(
    backbone: DynamicBackbone,
    forward: Callable[[], object],
    selection: str,
    rate: float,
    seed: int,
) -> Tensor | dict[str, Tensor]:
    """Decisions as values, so that drawing them is not timed."""
    with backbone.select(selection, rate=rate, seed=seed):
        forward()
    return backbone.decisions.choices()


class Ready(NamedTuple):
    """A candidate and what its forward passes cost; see `Timing`."""

    candidate: Candidate
    macs: float
    blocks: float | None = None
    num_blocks: int | None = None


@torch.inference_mode()
def make_ready(name: str, net: nn.Module, images: Tensor, **choices: Any) -> list[Ready]:
    """The candidates of a network, each of which has run once.

    Args:
        name, net, images: see `candidates_of`.
        choices: its other arguments.
    """
    net.eval()
    ready = []
    for candidate in candidates_of(name, net, images, **choices):
        if backbone_of(net) is None:
            ready.append(Ready(candidate, _counted_macs(net, images)))
            continue
        seen = []
        for _ in range(1 if candidate.rate is None else DRAWS):
            with candidate.context():
                candidate.forward()
            seen.append(backbone_of(net).decisions)
        macs = statistics.fmean(float(decisions.macs.mean()) for decisions in seen)
        ready.append(Ready(candidate, macs, *_blocks_kept(seen[0])))
    return ready


def _counted_macs(net: nn.Module, images: Tensor) -> float:
    # Imported on use: it scripts functions, which torch warns of.
    from fvcore.nn import FlopCountAnalysis

    counter = FlopCountAnalysis(net, images[:1])
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counts = counter.by_operator()
    return float(counts["conv"] + counts["linear"])


def _blocks_kept(decisions: Decisions) -> tuple[float, int] | tuple[None, None]:
    """Blocks that an image keeps in the mean, and how many there are."""
    blocks = decisions.blocks()
    if blocks is None:
        return None, None
    return float(blocks.actions.sum(dim=1).double().mean()), blocks.actions.shape[1]
