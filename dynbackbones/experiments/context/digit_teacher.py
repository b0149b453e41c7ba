"""A network that knows digits: the teacher where no weights of ImageNet would help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dynbackbones
from dynbackbones.adaptation import PixelFormat
from dynbackbones.demo.digit_tiles import CLASSES, make_tiles
from dynbackbones.experiments.steps import Cells
from dynbackbones.pretraining import Teacher, cut_patches
from dynbackbones.training.progress import show_time_left

NAME = "resnet18"
PATCH = 32
TILES, ITERATIONS, BATCH, LR = 9600, 500, 64, 2e-3


def digit_teacher(output: Path) -> tuple[Teacher, dict[str, Any]]:
    """A plain ResNet-18 that tells the ten digits apart, and its accuracy; trained once.

    It learns from tight patches of single digits, of none of the samples that the demo dataset
    validates with.
    """
    torch.manual_seed(0)
    network = dynbackbones.build_backbone(NAME)
    settings = {"patch": PATCH, "tiles": TILES, "iterations": ITERATIONS, "batch": BATCH, "lr": LR}
    cells = Cells(output / "teacher", settings)
    figures = cells.made("digits", lambda: _train(network), network)
    return Teacher(network, source=str(output / "teacher" / "digits.pth")), figures


def _patches(split: str, count: int) -> tuple[Tensor, Tensor]:
    tiles = make_tiles(split, count)
    found = [
        cut_patches(image, [(left, top, left + width, top + height)], PATCH)
        for image, (top, left, height, width) in zip(tiles.images, tiles.boxes, strict=True)
    ]
    return torch.cat(found), torch.from_numpy(tiles.labels)


def _train(network: nn.Module) -> dict[str, Any]:
    pixels, head = PixelFormat(), nn.Linear(512, len(CLASSES))
    (images, labels), (others, answers) = _patches("train", TILES), _patches("val", TILES // 10)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], LR)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=ITERATIONS)
    network.train()
    for _ in show_time_left(range(ITERATIONS), ITERATIONS, "digit teacher:"):
        index = torch.randint(len(images), (BATCH,))
        features = network(pixels.from_rgb(images[index]))["res5"].mean(dim=(2, 3))
        loss = F.cross_entropy(head(features), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    teacher = Teacher(network)
    with torch.no_grad():
        guesses = torch.cat([head(teacher(part)).argmax(dim=1) for part in others.split(BATCH)])
    return {"accuracy": 100 * float((guesses == answers).float().mean())}
