"""Features of needle videos by encoders that are trained once and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynbackbones.experiments.steps import Cells
from dynbackbones.video import FrameEncoder
from dynbackbones.video.needle_encoders import (
    FeaturePlan,
    build_encoders,
    drawn_videos,
    encoded,
    scale_of,
    single_frames,
    train_encoder,
)


class Videos(NamedTuple):
    """Features of a split, standardised by those of the training split.

    Attributes:
        coarse, fine: (N, T, D) float32.
        labels, first: (N,) class, and first frame with the digit.
    """

    coarse: Tensor
    fine: Tensor
    labels: Tensor
    first: Tensor

    def part(self, index: Tensor | slice) -> Videos:
        """Some of the videos."""
        return Videos(*(values[index] for values in self))


def features(output: Path, plan: FeaturePlan) -> tuple[Videos, Videos, dict[str, Any]]:
    """Features of both splits, and what the encoders can; made once."""
    cells = Cells(output / "encoders", vars(plan))
    encoders, figures = build_encoders(), {}
    frames: list[tuple[Tensor, Tensor]] = []
    for name, encoder in encoders.items():

        def make(encoder: FrameEncoder = encoder, name: str = name) -> dict[str, Any]:
            if not frames:
                frames.extend(single_frames(split, plan) for split in ("encoder", "val"))
            return train_encoder(encoder, *frames, plan, name)

        figures[name] = cells.made(name, make, encoder)
        figures[name]["mmacs"] = encoder.macs() / 1e6
    splits = [_encoded(output, split, encoders, plan) for split in ("train", "val")]
    return (*_standardised(splits), figures)


def _encoded(
    output: Path, split: str, encoders: dict[str, FrameEncoder], plan: FeaturePlan
) -> Videos:
    """Features of a split; kept in a file."""
    file = output / "encoders" / f"{split}.pt"
    if not file.exists():
        found = []
        for video in drawn_videos(split, plan, "encoding"):
            each = encoded(video, encoders)
            found.append((*each, torch.tensor(video.label), torch.tensor(video.first)))
        columns = [torch.stack(values) for values in zip(*found, strict=True)]
        part = file.with_suffix(".part")
        torch.save(columns, part)
        part.replace(file)
    return Videos(*torch.load(file, weights_only=True))


def _standardised(splits: list[Videos]) -> list[Videos]:
    for name in ("coarse", "fine"):
        mean, std = scale_of(getattr(splits[0], name))
        splits = [s._replace(**{name: (getattr(s, name) - mean) / std}) for s in splits]
    return splits
