"""What is compared with what: groups of contestants on one input, each with plain opponents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.dynamic import DynamicBackbone
from tests.gpu import models
from tests.gpu.contestants import Contestant, Preparation, Run, one_line
from tests.gpu.fused import fused
from tests.gpu.networks import Inputs, Regions, build, half_policies

PLAIN = ("compiled", "fused graph", "graph", "eager", "eager, not folded")
DYNAMIC = ("compiled", "fused compiled", "graph", "eager", "fused graph")
PAPER = {"groups": 2, "base_scale": 2, "alpha": 2}


@dataclass(frozen=True)
class Group:
    """Contestants that are timed in turns.

    Attributes:
        name: for ``--only``, which also takes its first letter.
        size: (height, width) of the images.
        batch: N.
        depth: of the plain ResNet and of the dynamic one.
        sar: options of a SAR-ResNet; None for a BlockDrop-ResNet at half of its blocks.
        rates: shares of regions that are refined.
        models: ``"retinanet"`` or ``"pspnet"``: whole models instead, see `tests.gpu.models`.
        plain, dynamic: treatments, the most important first.
    """

    name: str
    size: tuple[int, int]
    batch: int
    depth: int = 50
    sar: dict | None = field(default_factory=lambda: dict(PAPER))
    rates: tuple[float, ...] = (0.5,)
    models: str = ""
    plain: tuple[str, ...] = PLAIN
    dynamic: tuple[str, ...] = DYNAMIC

    @property
    def title(self) -> str:
        """In a line."""
        method = "BlockDrop" if self.sar is None else "SAR"
        options = "".join(f" {key}={value}" for key, value in (self.sar or {}).items())
        what = f"whole {self.models} on " if self.models else ""
        return (
            f"{self.name}: {what}ResNet-{self.depth} and {method}-ResNet-{self.depth}{options}, "
            f"{self.size[0]}x{self.size[1]}, batch {self.batch}"
        )


_COCO, _CITY = (800, 1344), (1024, 2048)
_FEW = {"plain": PLAIN[:3], "dynamic": DYNAMIC[:4]}
_BLOCKS = {"depth": 101, "sar": None, "plain": PLAIN[:3], "dynamic": ("compiled", "eager", "graph")}
_AROUND = {"layout": "resnet", "groups": 1}
GROUPS = (
    Group("A", _COCO, 8, rates=(0.25, 0.5, 0.75)),
    Group("C8", _COCO, 8, **_BLOCKS),
    Group("B8", _CITY, 8, **_FEW),
    Group("B1", _CITY, 1, **_FEW),
    Group("C1", _COCO, 1, **_BLOCKS),
    Group("D", _COCO, 1, rates=(0.25, 0.5, 0.75), **_FEW),
    Group("E", _COCO, 8, sar=_AROUND, rates=(0.25, 0.5), **_FEW),
    Group("F1", _COCO, 1, models="retinanet"),
    Group("F8", _COCO, 8, models="retinanet"),
    Group("FP1", _CITY, 1, models="pspnet"),
)
"""The most important first."""


def tiny(group: Group) -> Group:
    """The same for a CPU in seconds."""
    height, width = group.size
    depth = {50: 18, 101: 18}[group.depth]
    return replace(group, size=(height // 16, width // 16), batch=min(group.batch, 2), depth=depth)


def autotuned(group: Group) -> Group:
    """A group's fastest networks beside ``max-autotune``, which takes minutes to prepare."""
    plain = "max-autotune", "compiled", "fused graph"
    dynamic = tuple(name for name in group.dynamic if name.endswith("compiled"))
    return replace(group, name=f"{group.name}+", plain=plain, dynamic=(*dynamic, "max-autotune"))


def compiled_networks(group: Group) -> list[str]:
    """What there is to compile in a group, such as ``"dynamic fused compiled"``."""
    kinds = {} if group.models else {"plain": group.plain, "dynamic": group.dynamic}
    return [
        f"{kind} {treatment}"
        for kind, treatments in kinds.items()
        for treatment in treatments
        if treatment.endswith("compiled")
    ]


def alone(group: Group, network: str) -> Group:
    """A group of nothing but one of its `compiled_networks`."""
    kind, _, treatment = network.partition(" ")
    return replace(group, rates=group.rates[:1], **{"plain": (), "dynamic": (), kind: (treatment,)})


def prepared(
    group: Group, preparation: Preparation, execution: str
) -> Iterator[Contestant | tuple[str, str]]:
    """The contestants of a group one after the other, and (what, why) of those left out."""
    inputs = Inputs.random(group.batch, group.size, preparation.place)
    if group.models:
        yield from models.prepared(group, inputs, preparation)
        return
    method = _blockdrop if group.sar is None else _sar
    networks = []
    if group.plain:
        networks.append(_plain(group, inputs, preparation))
    if group.dynamic:
        networks.append(method(group, inputs, preparation, execution))
    yield from _alternately(*networks)


def _alternately(*iterators: Iterator) -> Iterator:
    """The items of several iterators in turns, so that the first of each come early."""
    waiting = list(iterators)
    while waiting:
        for one in list(waiting):
            try:
                yield next(one)
            except StopIteration:
                waiting.remove(one)


def _plain(group: Group, inputs: Inputs, preparation: Preparation) -> Iterator:
    name, place = f"resnet{group.depth}", preparation.place
    net = build(name, place)
    net(inputs.images)
    shared = {
        "plain": True,
        "context": inputs.turn,
        "reference": lambda: net(inputs.images),
        "macs": float(net.decisions.macs.mean()),
    }
    for treatment in group.plain:

        def make(treatment: str = treatment) -> Backbone:
            return build(name, place, fold=False) if "not folded" in treatment else net

        yield from _contestants(name, treatment, make, inputs, preparation, [shared])


def _sar(group: Group, inputs: Inputs, preparation: Preparation, execution: str) -> Iterator:
    name = f"sar_resnet{group.depth}"
    net = build(name, preparation.place, execution=execution, **group.sar)
    regions = Regions(net, inputs.images, group.rates)
    masked = masked_run(net, inputs)
    each = []
    for rate in group.rates:
        regions.next(rate)
        masked()
        each.append(
            {
                "plain": False,
                "context": _turns(inputs, regions, rate),
                "reference": masked,
                "rate": rate,
                "macs": float(net.decisions.macs.mean()),
                "note": f"share of regions {regions.share():.3f}",
            }
        )
    for treatment in group.dynamic:
        yield from _contestants(name, treatment, lambda: net, inputs, preparation, each)


def _turns(inputs: Inputs, regions: Regions, rate: float) -> Callable:
    @contextmanager
    def turn() -> Iterator[None]:
        inputs.next()
        regions.next(rate)
        yield

    return turn


def masked_run(net: DynamicBackbone, inputs: Inputs) -> Run:
    """A network's eager, masked forward passes."""

    def run() -> dict[str, torch.Tensor]:
        execution, net.execution = net.execution, "masked"
        try:
            return net(inputs.images)
        finally:
            net.execution = execution

    return run


def _blockdrop(group: Group, inputs: Inputs, preparation: Preparation, execution: str) -> Iterator:
    name = f"blockdrop_resnet{group.depth}"
    for alike in (False, True)[: 1 if group.batch == 1 else 2]:
        net = build(name, preparation.place, execution=execution)
        policies = half_policies(net, group.batch, alike=alike)
        net.selection = net.make_selection(policies, 0.5, 0)
        masked = masked_run(net, inputs)
        masked()
        shared = {
            "plain": False,
            "context": inputs.turn,
            "reference": masked,
            "rate": float(policies.float().mean()),
            "macs": float(net.decisions.macs.mean()),
        }
        kind = "one policy" if alike or group.batch == 1 else "a policy for each image"
        for treatment in group.dynamic:
            label = f"{name}, {kind}"
            yield from _contestants(
                label, treatment, lambda net=net: net, inputs, preparation, [shared]
            )


def _contestants(
    network: str,
    treatment: str,
    make: Callable[[], Backbone],
    inputs: Inputs,
    preparation: Preparation,
    each: list[dict],
) -> Iterator[Contestant | tuple[str, str]]:
    """A network in a treatment: a contestant for each of the values in ``each``."""
    one = Contestant(network, treatment, **each[0])
    mode = "eager" if treatment.startswith("eager") else one.mode
    if not preparation.fits(mode):
        yield one.label, "no time left"
        return
    try:
        net, ways = make(), ""
        if treatment.startswith("fused"):
            net, ways = fused(net, inputs.images)
        # Another batch and other regions than those that are drawn last.
        with one.context():
            run, note, seconds = preparation.start(net, inputs.images, mode)
    except Exception as error:  # whatever it is, the others go on
        yield replace(one, error=one_line(error))
        return
    notes = "; ".join(filter(None, [note, ways]))
    for values in each:
        both = "; ".join(filter(None, [values.get("note", ""), notes]))
        yield Contestant(network, treatment, run=run, seconds=seconds, **{**values, "note": both})
