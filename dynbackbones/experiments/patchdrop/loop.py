"""A training loop for classifiers of patches, images in memory, with progress on stderr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from dynbackbones.classifiers.base import DynamicClassifier
from dynbackbones.experiments.descent import descend, mean_of_last_tenth
from dynbackbones.experiments.patchdrop.data import Split
from dynbackbones.training.progress import show_time_left


class Learning(Protocol):
    """What knows the losses of a network's stage."""

    def losses(
        self, net: DynamicClassifier, images: Tensor, labels: Tensor
    ) -> Mapping[str, Tensor]:
        """Losses, and what to log beside them (names without "loss")."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        iterations, batch: of images.
        lr: at the start; falls to 0 as a cosine, after a short rise with SGD.
        optimizer: ``"sgd"`` (momentum 0.9, Nesterov, weight decay 5e-4) or ``"adam"``.
    """

    iterations: int
    batch: int
    lr: float
    optimizer: str = "adam"

    def make(self, parameters: list[nn.Parameter]) -> tuple[torch.optim.Optimizer, object]:
        """The optimiser, and what moves its learning rate."""
        if self.optimizer == "sgd":
            made = torch.optim.SGD(parameters, self.lr, 0.9, weight_decay=5e-4, nesterov=True)
            warm_up = 0.1
        else:
            made, warm_up = torch.optim.Adam(parameters, self.lr), 0.02
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            made,
            self.lr,
            total_steps=max(self.iterations, 2),
            pct_start=warm_up,
            cycle_momentum=False,
        )
        return made, scheduler


def computing(bfloat16: bool) -> AbstractContextManager:
    """Inside, networks compute in mixed precision on request."""
    # Weights change inside, so that none may be kept in the other precision.
    return torch.autocast("cpu", torch.bfloat16, enabled=bfloat16, cache_enabled=False)


def train(
    net: DynamicClassifier,
    learning: Learning,
    split: Split,
    schedule: Schedule,
    seed: int,
    title: str,
    selecting: Callable[[int], AbstractContextManager] = lambda _: nullcontext(),
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
) -> dict[str, float]:
    """Trains the network's stage.

    Args:
        net: in the stage that is to learn.
        learning: its losses.
        split: what it learns from.
        schedule: for how long.
        seed: of everything random.
        title: of the progress.
        selecting: makes the context of an iteration, such as ``net.select(...)``.
        prepare: changes a batch of images.

    Returns:
        Means of what is logged over the last tenth.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net.train().to(memory_format=torch.channels_last)
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer, scheduler = schedule.make(parameters)
    logged: list[dict[str, float]] = []
    count = schedule.iterations
    for iteration in show_time_left(range(count), count, f"{title}:", lambda: _figures(logged)):
        net.set_progress(iteration / count)
        index = torch.randint(len(split.labels), (schedule.batch,), generator=generator)
        images = prepare(split.normalised(index, generator))
        with selecting(iteration):
            losses = learning.losses(net, images, split.labels[index])
        logged.append(descend(losses, optimizer, scheduler))
    net.eval()
    return mean_of_last_tenth(logged)


def _figures(logged: list[dict[str, float]]) -> str:
    """Of the last iteration, in a line of text."""
    names = ("accuracy", "greedy", "reward")
    last = logged[-1] if logged else {}
    return ", ".join(f"{key} {value:.3g}" for key, value in last.items() if key.startswith(names))
