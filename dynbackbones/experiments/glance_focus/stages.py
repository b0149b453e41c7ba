"""The stages of Glance and Focus one after the other, and both ways to learn where to look."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dynbackbones.classifiers import FocusLearning, GlanceFocusClassifier, build_classifier
from dynbackbones.classifiers.glance_focus.crops import glance
from dynbackbones.experiments.glance_focus.evaluation import budgets, by_place, times
from dynbackbones.experiments.patchdrop.data import Split, digits_anywhere
from dynbackbones.experiments.patchdrop.loop import Schedule, computing, train
from dynbackbones.experiments.steps import Cells

EDGE, TILE, HEIGHTS = 64, 16, (9.0, 12.0)
TRAIN, CALIBRATION, VAL = 12000, 4000, 2000
INTERPOLATED = "interpolate"


@dataclass(frozen=True)
class Plan:
    """What is built, and how long each stage trains.

    Attributes:
        name, options: of `build_classifier`.
        schedules: by stage; ``"interpolate"`` takes the place of ``"policy"`` and ``"fine_tune"``,
            from the same warm-up and in about their processor time. ``"local"`` and ``"glance"``
            stand for ImageNet's weights at both sizes, which the authors start from.
        learning: options of `FocusLearning`.
        bfloat16: compute in mixed precision, twice as fast on CPUs that have it.
    """

    name: str
    schedules: dict[str, Schedule]
    options: dict[str, Any] = field(default_factory=dict)
    learning: dict[str, Any] = field(default_factory=dict)
    bfloat16: bool = False

    def settings(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


PLAN = Plan(
    "glance_focus_cifar_resnet8",
    {
        "local": Schedule(300, 128, 0.1, "sgd"),
        "glance": Schedule(300, 128, 0.1, "sgd"),
        "warm_up": Schedule(400, 128, 0.05, "sgd"),
        "policy": Schedule(800, 128, 1e-3),
        "fine_tune": Schedule(200, 128, 0.02, "sgd"),
        INTERPOLATED: Schedule(200, 128, 1e-3),
    },
    {"patch": 24, "steps": 4, "head_width": 256},
)


@dataclass(frozen=True)
class EncoderLearning:
    """Classification by one of the encoders alone.

    Attributes:
        name: ``"local"``, which sees images as they are, or ``"glance"``, which sees them reduced.
    """

    name: str

    def losses(
        self, net: GlanceFocusClassifier, images: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """See `FocusLearning.losses`."""
        if self.name == "glance":
            images = glance(images, net.patch, net.glance_mode)
        logits = getattr(net, self.name)(images)
        accuracy = 100 * (logits.detach().argmax(dim=1) == labels).float().mean()
        return {"loss": F.cross_entropy(logits, labels), "accuracy": accuracy}


@dataclass(frozen=True)
class Experiment:
    """A plan on a dataset.

    Attributes:
        plan: what is trained.
        tiles: single digits, what ``local`` is pretrained on.
        train, calibration, val: what is learned from, what exits are found on, and what results are
            of.
        cells: where steps are kept.
        seed: of all steps.
    """

    plan: Plan
    tiles: Split
    train: Split
    calibration: Split
    val: Split
    cells: Cells
    seed: int

    def run(self) -> dict[str, Any]:
        """All stages, each with what its network is worth."""
        with computing(self.plan.bfloat16):
            net, results = self.network(), {}
            results |= {name: self.pretrain(net, name) for name in ("local", "glance")}
            results["warm_up"] = self.train_stage(net, "warm_up")
            other = self.network(proposal_training=INTERPOLATED)
            other.load_state_dict(copy.deepcopy(net.state_dict()))
            for stage in ("policy", "fine_tune"):
                results[stage] = self.train_stage(net, stage)
            timed = partial(times, net, self.calibration, self.val)
            results["times"] = self.evaluated.made("times", timed)
            results[INTERPOLATED] = self.train_stage(other, INTERPOLATED)
        return results

    def network(self, **options: Any) -> GlanceFocusClassifier:
        """Untrained."""
        torch.manual_seed(self.seed)
        options = {**self.plan.options, "stage": "warm_up", **options}
        return build_classifier(self.plan.name, int(self.val.labels.max()) + 1, **options)

    def trained(self) -> GlanceFocusClassifier:
        """The network after its last stage."""
        net = self.network()
        with computing(self.plan.bfloat16):
            for name in ("local", "glance"):
                self.pretrain(net, name)
            for stage in ("warm_up", "policy", "fine_tune"):
                self.train_stage(net, stage)
        return net

    def pretrain(self, net: GlanceFocusClassifier, name: str) -> dict[str, Any]:
        """Trains an encoder alone: ``local`` on single digits, then ``glance`` on whole scenes."""

        def make() -> dict[str, Any]:
            if name == "glance":
                net.glance.load_state_dict(net.local.state_dict())
            split = self.tiles if name == "local" else self.train
            schedule, title = self.plan.schedules[name], f"seed {self.seed}: {name}"
            learning = EncoderLearning(name)
            return {"logged": train(net, learning, split, schedule, self.seed, title)}

        return self.cells.made(name, make, net)

    def train_stage(self, net: GlanceFocusClassifier, stage: str) -> dict[str, Any]:
        """Trains a stage unless that is done, and evaluates it."""
        net.set_stage("policy" if stage == INTERPOLATED else stage)
        learning = FocusLearning(**self.plan.learning)

        def make() -> dict[str, Any]:
            schedule, title = self.plan.schedules[stage], f"seed {self.seed}: {stage}"
            return {"logged": train(net, learning, self.train, schedule, self.seed, title)}

        result = self.cells.made(stage, make, net)
        worth = self.evaluated.made(f"{stage}-evaluation", lambda: self.evaluate(net, stage))
        seconds = result["cpu_seconds"] + worth["cpu_seconds"]
        return {**result, **worth, "cpu_seconds": seconds}

    @property
    def evaluated(self) -> Cells:
        """Where steps are kept that depend on the images of evaluation."""
        counts = [len(self.calibration.labels), len(self.val.labels)]
        return replace(self.cells, settings={**self.cells.settings, "evaluated": counts})

    def evaluate(self, net: GlanceFocusClassifier, stage: str) -> dict[str, Any]:
        """By where it looks, and, once it knows where, within budgets."""
        worth = {
            "places": by_place(net, self.val),
            "mmacs": [macs / 1e6 for macs in net.step_macs],
        }
        if stage != "warm_up":
            worth["budgets"] = budgets(net, self.calibration, self.val)
        return worth


def experiment(output: Path, seed: int, plan: Plan) -> Experiment:
    """The experiment on digits anywhere in scenes of 64 x 64 pixels, kept in a folder."""
    images, others = digits_anywhere(output, TRAIN, CALIBRATION + VAL, HEIGHTS, EDGE)
    tiles, _ = digits_anywhere(output, TRAIN, 1, HEIGHTS, TILE)
    sizes = {"images": TRAIN, "edges": [EDGE, TILE], "heights": HEIGHTS}
    settings = {**plan.settings(), **sizes}
    cells = Cells(output / f"seed{seed}", settings)
    calibration = others.part(0, CALIBRATION)
    val = others.part(CALIBRATION, CALIBRATION + VAL)
    return Experiment(plan, tiles, images, calibration, val, cells, seed)


def run(output: Path, seeds: Sequence[int], plan: Plan = PLAN) -> dict[int, dict[str, Any]]:
    """All stages for each seed."""
    return {seed: experiment(output, seed, plan).run() for seed in seeds}
