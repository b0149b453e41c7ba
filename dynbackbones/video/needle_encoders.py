"""Fixed encoders of the demo's needle videos, and how they learn from single frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.demo.digit_tiles import CLASSES
from dynbackbones.demo.needle_videos import EDGE, NeedleVideo, NeedleVideos
from dynbackbones.training.progress import show_time_left
from dynbackbones.video.encoder import FrameEncoder

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


def encoders_to_train(
    plan: FeaturePlan,
) -> Iterator[tuple[str, FrameEncoder, Callable[[], dict[str, Any]]]]:
    """Each of `build_encoders`, and what trains it and returns what it can (see `train_encoder`).

    The frames are drawn for the first one that is trained.
    """

    @cache
    def frames() -> tuple[tuple[Tensor, Tensor], ...]:
        return tuple(single_frames(split, plan) for split in ("encoder", "val"))

    for name, encoder in build_encoders().items():
        yield name, encoder, lambda name=name, encoder=encoder: train_encoder(
            encoder, *frames(), plan, name
        )


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def drawn_videos(split: str, plan: FeaturePlan, purpose: str) -> Iterator[NeedleVideo]:
    """Videos of a split, ``"encoder"``, ``"train"`` or ``"val"``, and how long the rest takes."""
    count = getattr(plan, split)
    if split == "encoder":
        videos = NeedleVideos("train", count, seed=_ENCODER_SEED)
    else:
        videos = NeedleVideos(split, count)
    return show_time_left(videos, count, f"{purpose}, {split} video:")


def single_frames(split: str, plan: FeaturePlan) -> tuple[Tensor, Tensor]:
    """Frames (n, 3, EDGE, EDGE) uint8 of a split, and their labels."""
    images, labels = [], []
    for number, video in enumerate(drawn_videos(split, plan, "drawing frames")):
        rng = np.random.default_rng(number)
        for showing, count in ((True, plan.shown), (False, plan.empty)):
            chosen = rng.choice(np.flatnonzero(video.visible == showing), count, replace=False)
            images.append(video.frames[chosen])
            labels += [video.label if showing else NOTHING] * count
    frames = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2).contiguous()
    return frames, torch.tensor(labels)


def train_encoder(
    encoder: FrameEncoder,
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    plan: FeaturePlan,
    name: str,
) -> dict[str, Any]:
    """Trains an encoder on `single_frames`, and tells what it can on others.

    Args:
        encoder: to be trained.
        train, val: frames and labels.
        plan: how long.
        name: ``"fine"``, or ``"coarse"``, which is told only whether there is a digit.

    Returns:
        ``class_accuracy`` where there is a digit, and ``presence_accuracy``.
    """
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
