"""Features of needle videos by encoders that are trained once and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dynbackbones.experiments.steps import Cells
from dynbackbones.video import FrameEncoder
from dynbackbones.video.needle_encoders import FeaturePlan, encoders_to_train
from dynbackbones.video.needle_split import Videos as Videos
from dynbackbones.video.needle_split import encoded


def features(output: Path, plan: FeaturePlan) -> tuple[Videos, Videos, dict[str, Any]]:
    """Standardised features of both splits, and what the encoders can; made once."""
    cells = Cells(output / "encoders", vars(plan))
    encoders, figures = {}, {}
    for name, encoder, train in encoders_to_train(plan):
        figures[name] = cells.made(name, train, encoder)
        figures[name]["mmacs"] = encoder.macs() / 1e6
        encoders[name] = encoder
    train, val = (_kept(output, split, encoders, plan) for split in ("train", "val"))
    return train.scaled(train.scales()), val.scaled(train.scales()), figures


def _kept(
    output: Path, split: str, encoders: dict[str, FrameEncoder], plan: FeaturePlan
) -> Videos:
    """Features of a split; kept in a file."""
    file = output / "encoders" / f"{split}.pt"
    if not file.exists():
        part = file.with_suffix(".part")
        torch.save(list(encoded(split, plan, encoders)), part)
        part.replace(file)
    return Videos(*torch.load(file, weights_only=True))
