"""Experiment: a digit in 6 of 60 frames; what learns to look there, beside what does not look."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dynbackbones
from dynbackbones.demo.digit_tiles import CLASSES
from dynbackbones.demo.needle_videos import FRAMES
from dynbackbones.experiments.steps import Cells
from dynbackbones.experiments.video.features import Videos, features
from dynbackbones.experiments.video.learning import (
    MEMORY_FRAMES,
    Choice,
    Schedule,
    evaluate,
    memory_of,
    train,
    train_saliency,
)
from dynbackbones.video import (
    AdaFrame,
    LiteEval,
    confident_steps,
    frame_exit_indices,
    lookahead_steps,
    random_indices,
    uniform_indices,
)
from dynbackbones.video.needle_encoders import FeaturePlan

STEPS = 3
VARIANTS = {
    "memory off": {"use_memory": False},
    "positions in keys only": {"position": "keys"},
    "reward p": {"reward": "probability"},
    "reward p - previous p": {"reward": "probability_gain"},
}
RATES = (0.05, 0.2)  # to calibrate to
STOP_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the utility below its maximum, as margins


@dataclass(frozen=True)
class Plan:
    """Sizes and schedules.

    Attributes:
        features: of the encoders.
        adaframe, fixed, liteeval, stopping: schedules of AdaFrame, of the same network with fixed
            frames (which has less to learn), of LiteEval, of AdaFrame with more steps.
        hidden: units of AdaFrame.
        coarse_hidden, fine_hidden: units of LiteEval.
        gamma: its target rate.
        stop_steps: K of the model that stops early.
    """

    features: FeaturePlan = field(default_factory=FeaturePlan)
    adaframe: Schedule = Schedule(5000, 128, 3e-3)
    fixed: Schedule = Schedule(1000, 128, 3e-3)
    liteeval: Schedule = Schedule(160, 64, 5e-3)
    stopping: Schedule = Schedule(3000, 128, 3e-3)
    hidden: int = 64
    coarse_hidden: int = 32
    fine_hidden: int = 128
    gamma: float = 0.1
    stop_steps: int = 6


@dataclass(frozen=True)
class Experiment:
    """A plan on features, for a seed."""

    plan: Plan
    train: Videos
    val: Videos
    cells: Cells
    seed: int

    def compared(self) -> dict[str, Any]:
        """AdaFrame and LiteEval beside what they are compared with."""
        results = {"adaframe": self.adaframe("adaframe")}
        for name, choose in self._fixed_frames().items():
            results[name] = self.adaframe(name, choose)
        return {**results, **self.liteevals()}

    def variants(self) -> dict[str, Any]:
        """AdaFrame with one thing changed, and its early stops."""
        results = {name: self.adaframe(name, **options) for name, options in VARIANTS.items()}
        return {**results, "stopping": self.stopping()}

    def adaframe(self, name: str, choose: Choice | None = None, **options: Any) -> dict[str, Any]:
        """Trained with its own locations, or with fixed frames."""
        schedule = self.plan.adaframe if choose is None else self.plan.fixed
        return self._made(name, self._agent(**options), schedule, choose)[1]

    def liteevals(self) -> dict[str, Any]:
        """LiteEval, calibrated, without synchronisation, and with gates that do not look."""
        net, learned = self._made("liteeval", self._gate(), self.plan.liteeval)
        results = {"liteeval": learned, **self._calibrated(net)}
        off = self._gate(synchronise=False)
        results["liteeval, sync off"] = self._made("sync-off", off, self.plan.liteeval)[1]
        share = learned["share"]

        def random(videos: Videos, generator: torch.Generator) -> Tensor:
            return (torch.rand(videos.coarse.shape[:2], generator=generator) < share).float()

        def every(videos: Videos, generator: torch.Generator) -> Tensor:
            shift = torch.randint(10, (len(videos.labels), 1), generator=generator)
            return ((torch.arange(FRAMES) + shift) % 10 == 0).float()

        for name, choose in (("gate at random", random), ("gate every 10th", every)):
            results[name] = self._made(name, self._gate(), self.plan.liteeval, choose)[1]
        return results

    def stopping(self) -> dict[str, Any]:
        """Accuracy and frames of one model of more steps, stopped in three ways."""
        plan = self.plan
        net = self._agent(steps=plan.stop_steps, supervise="all")
        net, _ = self._made("stopping", net, plan.stopping)
        return self.cells.made("stopping-curve", lambda: _stop_curves(net, self.train, self.val))

    def _agent(self, **options: Any) -> AdaFrame:
        torch.manual_seed(self.seed)
        sizes = self.val.fine.shape[2], self.val.coarse.shape[2], len(CLASSES)
        return AdaFrame(*sizes, **{"hidden": self.plan.hidden, "steps": STEPS, **options})

    def _gate(self, **options: Any) -> LiteEval:
        torch.manual_seed(self.seed)
        return LiteEval(
            self.val.coarse.shape[2],
            self.val.fine.shape[2],
            len(CLASSES),
            coarse_hidden=self.plan.coarse_hidden,
            fine_hidden=self.plan.fine_hidden,
            target_rate=self.plan.gamma,
            **options,
        )

    def _made(
        self,
        name: str,
        net: AdaFrame | LiteEval,
        schedule: Schedule,
        choose: Choice | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        def make() -> dict[str, Any]:
            title = f"seed {self.seed}: {name}"
            logged = train(net, self.train, schedule, self.seed, title, choose)
            return {"logged": logged, **evaluate(net, self.val, self.seed, choose)}

        return net, self.cells.made(name.replace(" ", "_"), make, net)

    def _fixed_frames(self) -> dict[str, Choice]:
        def of_lengths(choose: Callable[..., Tensor], *, drawn: bool = False) -> Choice:
            def chosen(videos: Videos, generator: torch.Generator) -> Tensor:
                lengths = torch.full((len(videos.labels),), FRAMES)
                return choose(lengths, STEPS, *([generator] if drawn else []))

            return chosen

        return {
            "uniform": of_lengths(uniform_indices),
            "random": of_lengths(random_indices, drawn=True),
            "frame_exit": of_lengths(frame_exit_indices),
            "saliency, memory": self._salient(MEMORY_FRAMES),
            "saliency, all": self._salient(FRAMES),
        }

    def _salient(self, among: int) -> Choice:
        """The frames that a supervised scorer finds most likely to show the digit."""
        scorer = train_saliency(self.train, self.seed)
        frames = uniform_indices(torch.tensor([FRAMES]), among)[0]

        @torch.no_grad()
        def choose(videos: Videos, _: torch.Generator) -> Tensor:
            coarse = videos.coarse if among == FRAMES else memory_of(videos)
            return frames[scorer(coarse).squeeze(2).topk(STEPS, dim=1).indices]

        return choose

    def _calibrated(self, net: LiteEval) -> dict[str, Any]:
        batches = [(self.train.coarse[:400], self.train.fine[:400])]
        found = {}
        for rate in RATES:

            def make(rate: float = rate) -> dict[str, Any]:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    reached = dynbackbones.calibrate(net, batches, target_rate=rate)
                warned = any("calibrate" in str(entry.message) for entry in caught)
                figures = evaluate(net, self.val, self.seed)
                return {"reached": reached, "warned": warned, **figures}

            found[f"liteeval, set to {rate}"] = self.cells.made(f"calibrated-{rate}", make)
        return found


def run(
    output: Path, seeds: Sequence[int], plan: Plan | None = None, *, variants: bool = False
) -> dict[str, Any]:
    """All steps that are missing; figures by seed, and those of the encoders."""
    plan = plan or Plan()
    train_videos, val, encoders = features(output, plan.features)
    results: dict[str, Any] = {"encoders": encoders, "seeds": {}}
    for seed in seeds:
        cells = Cells(output / f"seed{seed}", asdict(plan))
        experiment = Experiment(plan, train_videos, val, cells, seed)
        results["seeds"][seed] = experiment.compared()
        if variants:
            results["seeds"][seed] |= experiment.variants()
    return results


@torch.no_grad()
def _stop_curves(net: AdaFrame, train_videos: Videos, val: Videos) -> dict[str, Any]:
    """Points (mean frames, accuracy) by margin, by probability, and after the first n frames."""
    net.eval()
    learned, run = (net(videos.fine, memory_of(videos)) for videos in (train_videos, val))
    falls = learned.utilities.cummax(dim=1).values - learned.utilities
    margins = falls[falls > 0].quantile(torch.tensor(STOP_QUANTILES)).tolist()
    sure = learned.scores.amax(dim=2)[:, :-1].flatten().quantile(torch.tensor(STOP_QUANTILES))

    def point(steps: Tensor, **what: float) -> dict[str, float]:
        right = run.answers(steps).argmax(dim=1) == val.labels
        frames = float(steps.float().mean())
        return {**what, "frames": frames, "accuracy": 100 * float(right.float().mean())}

    steps = run.logits.shape[1]
    return {
        "lookahead": [
            point(lookahead_steps(run.utilities, run.taken, margin, patience=0), margin=margin)
            for margin in margins
        ],
        "probability": [
            point(confident_steps(run.scores, run.taken, threshold), threshold=threshold)
            for threshold in sure.tolist()
        ],
        "first": [
            point(torch.full_like(run.taken, count), count=count) for count in range(1, steps + 1)
        ],
    }
