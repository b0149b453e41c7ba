"""Experiment: what the conditional BagNet saves, and hard positives, on digits anywhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dynbackbones.classifiers import PatchDrop, PatchLearning, hard_positives
from dynbackbones.classifiers.hard_positives import WAYS
from dynbackbones.experiments.patchdrop import digits
from dynbackbones.experiments.patchdrop.evaluation import evaluate, plain
from dynbackbones.experiments.patchdrop.loop import Schedule, computing, train
from dynbackbones.experiments.patchdrop.stages import Experiment, Plan
from dynbackbones.experiments.steps import Cells

PLAN = Plan(
    "bagnet_cifar_resnet8",
    {
        "high": Schedule(350, 128, 0.1, "sgd"),
        "low": Schedule(50, 128, 0.02, "sgd"),
        "policy": Schedule(300, 192, 5e-3),
        "joint": Schedule(100, 128, 1e-3),
    },
    {"policy": 0.25, "joint": 1.0},
    options={"policy_head": "places"},
    fine_tuned=(),
)
AUGMENTED = Schedule(250, 128, 0.1, "sgd")
_ROUNDS = 15


def run(output: Path, seeds: Sequence[int], plan: Plan = PLAN) -> dict[int, dict[str, Any]]:
    """The BagNet's stages and times, and classifiers trained on hard positives, for each seed."""
    images, val = digits.digits_anywhere(output, digits.TRAIN, digits.VAL)
    results = {}
    for seed in seeds:
        cells = Cells(output / f"bagnet{seed}", digits.settings(plan))
        experiment = Experiment(plan, images, images.part(0, digits.CALIBRATION), val, cells, seed)
        results[seed] = experiment.run()
        results[seed]["times"] = cells.made("times", partial(times, experiment.network()))
        other = replace(digits.PLAN, bfloat16=plan.bfloat16)
        steps = Cells(output / f"seed{seed}", digits.settings(other))
        teacher = replace(experiment, plan=other, cells=steps)
        results[seed]["hard_positives"] = augmentations(experiment, teacher)
    return results


@torch.no_grad()
def times(net: PatchDrop, batch: int = 64) -> dict[str, float]:
    """Median milliseconds of a batch with 4, 8 and 16 patches of each image, interleaved."""
    net.eval().to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    taken: dict[str, list[float]] = {"4": [], "8": [], "16": []}
    for _ in range(_ROUNDS):
        for count, seconds in taken.items():
            with net.select("random", rate=int(count) / 16):
                start = time.process_time()
                net(images)
            seconds.append(time.process_time() - start)
    return {count: 1e3 * sorted(seconds)[_ROUNDS // 2] for count, seconds in taken.items()}


def augmentations(experiment: Experiment, teacher: Experiment) -> dict[str, Any]:
    """Accuracy on whole images after training on whole ones, hard positives, random masks."""
    guide = teacher.trained("joint")
    results = {}
    for way in (None, *WAYS):

        def make(way: str | None = way) -> dict[str, Any]:
            net = teacher.network()
            net.set_stage("high")
            title = f"seed {experiment.seed}: trained on {way or 'whole'} images"
            with computing(experiment.plan.bfloat16):
                train(
                    net, PatchLearning(), experiment.train, AUGMENTED, experiment.seed, title,
                    prepare=lambda x: x if way is None else hard_positives(guide, x, way=way),
                )  # fmt: skip
                return plain(evaluate(net, experiment.val))

        results[way or "none"] = experiment.cells.made(f"augmented-{way}", make)
    return results
