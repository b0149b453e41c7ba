"""The stages of PatchDrop one after the other, and what they are compared with."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch

from dynbackbones.classifiers import BagNet, PatchDrop, PatchLearning, build_classifier
from dynbackbones.experiments.patchdrop.data import Split
from dynbackbones.experiments.patchdrop.evaluation import (
    SEARCHED,
    at_equal_patches,
    best_fixed,
    described,
    evaluate,
    plain,
)
from dynbackbones.experiments.patchdrop.loop import Schedule, computing, train
from dynbackbones.experiments.steps import Cells

_SHOWN = (0.375, 0.9375)  # 6 to 15 of 16 patches
FINE_TUNED = ("all", "horizontal", SEARCHED)


@dataclass(frozen=True)
class Plan:
    """What is built, and how long each stage trains.

    Attributes:
        name, options: of `build_classifier`.
        schedules: by stage; that of ``"joint"`` is also the baselines'.
        sigma: by stage.
        alpha: see `PatchLearning`.
        fine_tuned: fixed masks with which the high-resolution network is fine-tuned as long.
        entropy_weight: of the policy stage, see `PatchLearning`; without it the policy was certain
            before it knew anything.
        blanked: share of the high-resolution network's batches of which random patches are dropped,
            so that it goes by what is shown; from whole images alone it learns that background is
            always there, and a policy is then rewarded for showing it.
        bfloat16: compute in mixed precision, twice as fast on CPUs that have it.
    """

    name: str
    schedules: dict[str, Schedule]
    sigma: dict[str, float]
    alpha: float | tuple[float, float] = 0.8
    options: dict[str, Any] = field(default_factory=dict)
    fine_tuned: tuple[str, ...] = FINE_TUNED
    entropy_weight: float = 0.05
    blanked: float = 0.0
    bfloat16: bool = False

    def settings(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Experiment:
    """A plan on a dataset.

    Attributes:
        plan: what is trained.
        train, calibration, val: what is learned from, what fixed policies are searched on, and
            what results are of.
        cells: where steps are kept.
        seed: of all steps.
    """

    plan: Plan
    train: Split
    calibration: Split
    val: Split
    cells: Cells
    seed: int

    def run(self) -> dict[str, Any]:
        """All stages, each beside its baselines."""
        with computing(self.plan.bfloat16):
            return self._run()

    def _run(self) -> dict[str, Any]:
        net, results = self.network(), {}
        for stage in ("high", "low"):
            results[stage] = self.train_stage(net, stage)
        whole = copy.deepcopy(net)
        for stage in ("policy", "joint", "two_stream"):
            if stage in self.plan.schedules:
                results[stage] = self.train_stage(net, stage)
            if stage == "joint" and self.plan.fine_tuned:
                results["fine_tuned"] = self.fine_tune(whole, results[stage]["learned"]["patches"])
        return results

    def policy_alone(self, start: Cells) -> dict[str, Any]:
        """The policy stage on networks that another experiment has trained."""
        with computing(self.plan.bfloat16):
            net = self.network()
            for stage in ("high", "low"):
                replace(self, cells=start).train_stage(net, stage)
            return self.train_stage(net, "policy")

    def trained(self, last: str) -> PatchDrop:
        """The network after a stage."""
        with computing(self.plan.bfloat16):
            net = self.network()
            for stage in self.plan.schedules:
                self.train_stage(net, stage)
                if stage == last:
                    return net
        raise ValueError(f"stage {last!r} is not in the plan")

    def network(self) -> PatchDrop:
        """Untrained."""
        torch.manual_seed(self.seed)
        return build_classifier(self.plan.name, int(self.val.labels.max()) + 1, **self.plan.options)

    def train_stage(self, net: PatchDrop, stage: str) -> dict[str, Any]:
        """Trains a stage unless that is done; its results, beside fixed policies if it decides."""
        net.set_stage(stage)
        weight = self.plan.entropy_weight if stage == "policy" else 0.0
        learning = PatchLearning(self.plan.sigma.get(stage, 0.0), self.plan.alpha, weight)

        def make() -> dict[str, Any]:
            if stage == "policy":
                net.policy.reset_bias(0.0)  # undecided
            schedule, title = self.plan.schedules[stage], f"seed {self.seed}: {stage}"
            some = partial(self._some_dropped, net, stage)
            logged = train(net, learning, self.train, schedule, self.seed, title, some)
            return {"logged": logged}

        result = self.cells.made(stage, make, net)
        compared = self.cells.made(f"{stage}-evaluation", lambda: self.compare(net))
        seconds = result["cpu_seconds"] + compared["cpu_seconds"]
        return {**result, **compared, "cpu_seconds": seconds}

    def _some_dropped(self, net: PatchDrop, stage: str, iteration: int) -> AbstractContextManager:
        """Of `Plan.blanked` of the iterations: a random part of each image's patches is shown."""
        if stage != "high":
            return nullcontext()
        chance = random.Random(f"{self.seed} {iteration}")
        if chance.random() >= self.plan.blanked:
            return nullcontext()
        return net.select("random", rate=chance.uniform(*_SHOWN), seed=iteration)

    def compare(self, net: PatchDrop) -> dict[str, Any]:
        """The network's own decisions, and fixed ones at as many patches."""
        result = evaluate(net, self.val)
        if not net.decides:
            return {"learned": plain(result)}
        learned = described(result, self.val, net)
        fixed = at_equal_patches(net, self.val, self.calibration, learned["patches"])
        # A BagNet sees nothing without patches.
        ends = ("all",) if isinstance(net, BagNet) else ("all", "none")
        whole = {name: plain(evaluate(net, self.val, name)) for name in ends}
        return {"learned": learned, **whole, **fixed}

    def fine_tune(self, whole: PatchDrop, patches: float) -> dict[str, Any]:
        """The high-resolution network fine-tuned with fixed masks, of the next whole number."""
        count = math.ceil(patches - 1e-6)
        results = {}
        for kind in self.plan.fine_tuned:
            net = copy.deepcopy(whole)
            net.set_stage("high")
            make = self._fine_tuning(net, kind, count)
            results[kind] = self.cells.made(f"fine-tuned-{kind}", make)
        return results

    def _fine_tuning(self, net: PatchDrop, kind: str, count: int) -> Callable[[], dict[str, Any]]:
        rate = count / net.grid**2

        def make() -> dict[str, Any]:
            mask = best_fixed(net, self.calibration)(count) if kind == SEARCHED else kind
            train(
                net,
                PatchLearning(),
                self.train,
                self.plan.schedules["joint"],
                self.seed,
                f"seed {self.seed}: fine-tuned with {kind}",
                lambda iteration: net.select(mask, rate=rate, seed=iteration),
            )
            return plain(evaluate(net, self.val, mask, rate))

        return make
