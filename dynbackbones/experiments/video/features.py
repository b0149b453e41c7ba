"""Fixed encoders of needle videos, and their features of each frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.demo.digit_tiles import CLASSES
from dynbackbones.demo.needle_videos import EDGE, NeedleVideos
from dynbackbones.experiments.steps import Cells
from dynbackbones.training.progress import show_time_left
from dynbackbones.video import FrameEncoder

NOTHING = len(CLASSES)  # label of a frame without a digit
COARSE_EDGE = EDGE // 8
_ENCODER_SEED = 1


@dataclass(frozen=True)
class FeaturePlan:
    """How many videos, and how long the encoders train.

    Attributes:
        encoder, train, val: videos that encoders and agents learn from, and results are of.
            Encoders have others than agents, which else meet features in training that tell what
            they do not tell of new videos.
        shown, empty: frames of each of the encoders' videos, with and without the digit.
        iterations, batch, lr: of each encoder.
    """

    encoder: int = 2500
    train: int = 2000
    val: int = 800
    shown: int = 3
    empty: int = 2
    iterations: int = 800
    batch: int = 128
    lr: float = 5e-3


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


def build_encoders(seed: int = 0) -> dict[str, FrameEncoder]:
    """Untrained: ``"fine"`` sees frames in full, ``"coarse"`` at an eighth of the size.

    Fine features are trained to tell classes, coarse ones to tell whether there is a digit.
    """
    torch.manual_seed(seed)
    fine = nn.Sequential(_layer(3, 16, 2), _layer(16, 32, 2), _layer(32, 48, 2), _layer(48, 64, 2))
    coarse = nn.Sequential(_layer(3, 16, 1), _layer(16, 32, 1), _layer(32, 32, 2))
    return {
        name: FrameEncoder(nn.Sequential(net, nn.AdaptiveMaxPool2d(1)), edge)
        for name, net, edge in (("coarse", coarse, COARSE_EDGE), ("fine", fine, EDGE))
    }


def features(output: Path, plan: FeaturePlan) -> tuple[Videos, Videos, dict[str, Any]]:
    """Features of both splits, and what the encoders can; made once."""
    cells = Cells(output / "encoders", vars(plan))
    encoders, figures = build_encoders(), {}
    frames: list[tuple[Tensor, Tensor]] = []
    for name, encoder in encoders.items():

        def make(encoder: FrameEncoder = encoder, name: str = name) -> dict[str, Any]:
            if not frames:
                frames.extend(_single_frames(split, plan) for split in ("encoder", "val"))
            return _train_encoder(encoder, *frames, plan, name)

        figures[name] = cells.made(name, make, encoder)
        figures[name]["mmacs"] = encoder.macs() / 1e6
    splits = [_encoded(output, split, encoders, plan) for split in ("train", "val")]
    return (*_standardised(splits), figures)


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _videos(split: str, plan: FeaturePlan, purpose: str) -> Any:
    count = getattr(plan, split)
    if split == "encoder":
        videos = NeedleVideos("train", count, seed=_ENCODER_SEED)
    else:
        videos = NeedleVideos(split, count)
    return show_time_left(videos, count, f"{purpose}, {split} video:")


def _single_frames(split: str, plan: FeaturePlan) -> tuple[Tensor, Tensor]:
    """Frames (n, 3, EDGE, EDGE) uint8 and their labels."""
    images, labels = [], []
    for number, video in enumerate(_videos(split, plan, "drawing frames")):
        rng = np.random.default_rng(number)
        for showing, count in ((True, plan.shown), (False, plan.empty)):
            chosen = rng.choice(np.flatnonzero(video.visible == showing), count, replace=False)
            images.append(video.frames[chosen])
            labels += [video.label if showing else NOTHING] * count
    frames = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2).contiguous()
    return frames, torch.tensor(labels)


def _train_encoder(
    encoder: FrameEncoder,
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    plan: FeaturePlan,
    name: str,
) -> dict[str, Any]:
    torch.manual_seed(0)
    head = nn.Linear(encoder.channels, NOTHING + 1)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, plan.lr, weight_decay=1e-4)
    steps = plan.iterations
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.lr, total_steps=max(steps, 2))
    images, labels = encoder.prepared(train[0]), train[1]
    if name == "coarse":
        labels = torch.where(labels == NOTHING, NOTHING, 0)
    encoder.net.train()
    for _ in show_time_left(range(steps), steps, f"{name} encoder:"):
        index = torch.randint(len(images), (plan.batch,))
        loss = F.cross_entropy(head(encoder.features(images[index])), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    encoder.eval()
    scores = head(encoder(val[0])).detach()
    shown = val[1] != NOTHING
    right = scores[:, :NOTHING].argmax(dim=1) == val[1]
    presence = ((scores.softmax(dim=1)[:, NOTHING] < 0.5) == shown).float()
    return {
        "class_accuracy": float(right[shown].float().mean()),
        "presence_accuracy": float(presence[shown].mean() + presence[~shown].mean()) / 2,
    }


def _encoded(
    output: Path, split: str, encoders: dict[str, FrameEncoder], plan: FeaturePlan
) -> Videos:
    """Features of a split; kept in a file."""
    file = output / "encoders" / f"{split}.pt"
    if not file.exists():
        found = []
        for video in _videos(split, plan, "encoding"):
            frames = torch.from_numpy(video.frames).permute(0, 3, 1, 2)
            each = [encoders[name](frames) for name in ("coarse", "fine")]
            found.append((*each, torch.tensor(video.label), torch.tensor(video.first)))
        columns = [torch.stack(values) for values in zip(*found, strict=True)]
        part = file.with_suffix(".part")
        torch.save(columns, part)
        part.replace(file)
    return Videos(*torch.load(file, weights_only=True))


def _standardised(splits: list[Videos]) -> list[Videos]:
    for name in ("coarse", "fine"):
        values = getattr(splits[0], name)
        mean, std = values.mean(dim=(0, 1)), values.std(dim=(0, 1)) + 1e-3
        splits = [s._replace(**{name: (getattr(s, name) - mean) / std}) for s in splits]
    return splits
