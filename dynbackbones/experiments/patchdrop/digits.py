"""Experiment: a small digit anywhere in a textured scene, where no fixed mask can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynbackbones.experiments.patchdrop.data import digits_anywhere
from dynbackbones.experiments.patchdrop.loop import Schedule
from dynbackbones.experiments.patchdrop.stages import Experiment, Plan
from dynbackbones.experiments.steps import Cells

PLAN = Plan(
    "patchdrop_cifar_resnet8",
    {
        "high": Schedule(1300, 128, 0.05, "sgd"),
        "low": Schedule(300, 128, 0.02, "sgd"),
        "policy": Schedule(600, 192, 5e-3),
        "joint": Schedule(250, 128, 1e-3),
        "two_stream": Schedule(150, 128, 1e-3),
    },
    {"policy": 0.5, "joint": 1.0, "two_stream": 1.0},
    options={"policy_head": "places"},
    blanked=0.5,
)
TRAIN, VAL, CALIBRATION = 16000, 2000, 300


def settings(plan: Plan) -> dict[str, Any]:
    """All that the steps depend on."""
    return {**plan.settings(), "images": [TRAIN, VAL]}


def run(output: Path, seeds: Sequence[int], plan: Plan = PLAN) -> dict[int, dict[str, Any]]:
    """All stages beside their baselines for each seed."""
    train, val = digits_anywhere(output, TRAIN, VAL)
    calibration = train.part(0, CALIBRATION)
    results = {}
    for seed in seeds:
        cells = Cells(output / f"seed{seed}", settings(plan))
        results[seed] = Experiment(plan, train, calibration, val, cells, seed).run()
    return results


def sweep(
    output: Path, sigmas: Sequence[float], plan: Plan = PLAN, seed: int = 0
) -> dict[float, dict[str, Any]]:
    """The policy stage alone with several sigma, from the networks of `run`: S rises with it."""
    train, val = digits_anywhere(output, TRAIN, VAL)
    start = Cells(output / f"seed{seed}", settings(plan))
    results = {}
    for sigma in sigmas:
        other = replace(plan, sigma={**plan.sigma, "policy": sigma})
        cells = Cells(output / f"seed{seed}" / f"sigma{sigma:g}", other.settings())
        experiment = Experiment(other, train, train.part(0, CALIBRATION), val, cells, seed)
        results[sigma] = experiment.policy_alone(start)
    return results
