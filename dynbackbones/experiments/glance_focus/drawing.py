"""What the trained network looks at, as a picture."""

from __future__ import annotations

from pathlib import Path

import torch

from dynbackbones.analysis.focus_pictures import FocusRow, save_focus_picture
from dynbackbones.experiments.glance_focus.stages import Experiment
from dynbackbones.inference import calibrate

SHARE = 0.6
PER_STEP = 1


@torch.no_grad()
def draw(experiment: Experiment, path: Path) -> Path:
    """Draws validation images that stopped after each number of steps, in order.

    Exits are set for a mean of three in five steps, on the calibration images.
    """
    net = experiment.trained().eval()
    calibrate(net, experiment.calibration.normalised(slice(None), None), target_rate=SHARE)
    split = experiment.val.part(0, 500)
    guess = net(split.normalised(slice(None), None)).argmax(dim=1)
    decisions, rows = net.decisions, []
    for step in range(1, net.steps + 1):
        for index in (decisions.steps == step).nonzero().flatten()[:PER_STEP].tolist():
            title = f"{int(split.labels[index])}, taken for {int(guess[index])}"
            image = split.images[index].permute(1, 2, 0).numpy()
            rows.append(FocusRow(image, decisions, index, title))
    return save_focus_picture(path, rows)
