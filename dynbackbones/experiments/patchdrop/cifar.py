"""Experiment: CIFAR-10, where objects are in the middle and fixed masks are strong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynbackbones.experiments.patchdrop.data import packed
from dynbackbones.experiments.patchdrop.loop import Schedule
from dynbackbones.experiments.patchdrop.stages import Experiment, Plan
from dynbackbones.experiments.steps import Cells

PLAN = Plan(
    "patchdrop_cifar_resnet8",
    {
        "high": Schedule(600, 128, 0.1, "sgd"),
        "low": Schedule(200, 128, 0.02, "sgd"),
        "policy": Schedule(350, 192, 5e-3),
        "joint": Schedule(150, 128, 1e-3),
    },
    {"policy": 0.25, "joint": 1.0},
    options={"policy_head": "places"},
    blanked=0.5,
    fine_tuned=("all", "horizontal", "vertical", "best"),
)
TRAIN, CALIBRATION, VAL = 49000, 500, 2000


def run(
    output: Path, seeds: Sequence[int], data: Path, plan: Plan = PLAN
) -> dict[int, dict[str, Any]]:
    """All stages beside their baselines for each seed.

    Args:
        output: folder of the steps.
        seeds: of them.
        data: folder of ``train.npz`` and ``val.npz``, see `PackedImages`.
        plan: what is trained.

    Raises:
        UserError: the data are not there.
    """
    images = packed(data / "train.npz", augment=True)
    val = packed(data / "val.npz").part(0, VAL)
    train, calibration = images.part(0, TRAIN), images.part(TRAIN, TRAIN + CALIBRATION)
    results = {}
    for seed in seeds:
        cells = Cells(output / f"seed{seed}", {**plan.settings(), "images": [TRAIN, VAL]})
        results[seed] = Experiment(plan, train, calibration, val, cells, seed).run()
    return results
