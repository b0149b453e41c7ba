"""Context modules on features that are made once, since the networks behind them are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dynbackbones.pretraining import (
    SpatialContextModule,
    TargetScaling,
    context_loss,
    explained_variance,
)
from dynbackbones.training.progress import show_time_left


class Pairs(NamedTuple):
    """Pairs of patches, as features.

    Attributes:
        context: (N, C) h1, of the patches that are seen.
        offsets: (N, 8) from these to the others.
        targets: (N, D) of the others.
    """

    context: Tensor
    offsets: Tensor
    targets: Tensor

    def part(self, index: Tensor | slice) -> Pairs:
        """Some of them."""
        return Pairs(*(values[index] for values in self))

    def shuffled(self, seed: int) -> Pairs:
        """The same with offsets that belong to others of the pairs."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.offsets), generator=generator)
        return self._replace(offsets=self.offsets[order])


@dataclass(frozen=True)
class Schedule:
    """How a context module trains: the chapter's SGD, with another number of epochs.

    Attributes:
        epochs: in the second half of which the learning rate is a tenth.
        batch: pairs of an iteration.
        hidden_channels: of h2. The chapter does not say; its h1 has 2048 or 4096, and as few as
            small networks have of these would tell places badly.
        lr, momentum, weight_decay: of SGD; the momentum is not in the chapter.
    """

    epochs: int
    batch: int = 64
    lr: float = 1e-3
    hidden_channels: int = 512
    momentum: float = 0.9
    weight_decay: float = 5e-4


@dataclass(frozen=True)
class Trained:
    """A module, and how it came to be.

    Attributes:
        module: in evaluation.
        scaling: of its targets.
        errors: after each epoch, the error on other pairs as a share of their targets' variance.
    """

    module: SpatialContextModule
    scaling: TargetScaling
    errors: list[float]

    @torch.no_grad()
    def predict(self, pairs: Pairs) -> Tensor:
        """(N, D) h3, on the targets' standardised scale."""
        return self.module(pairs.context, pairs.offsets)

    def error(self, pairs: Pairs) -> float:
        """Squared error over the targets' variance: 0 is perfect, 1 is their mean."""
        targets = self.scaling(pairs.targets)
        # About the training targets' mean, which is 0 once they are standardised.
        mean = torch.zeros(targets.shape[1]) if self.scaling.norm != "none" else None
        return 1 - explained_variance(self.predict(pairs), targets, mean)


def train_context(
    train: Pairs,
    test: Pairs,
    schedule: Schedule,
    *,
    seed: int,
    title: str,
    use_offset: bool = True,
    kept: Sequence[int] = (),
) -> tuple[Trained, dict[int, Tensor]]:
    """Trains a module.

    Args:
        train, test: what it learns from, and what errors are of.
        schedule: for how long.
        seed: of everything random.
        title: of the progress.
        use_offset: see `SpatialContextModule`.
        kept: epochs after which predictions of ``test`` are kept.

    Returns:
        The module, and those predictions by epoch.
    """
    torch.manual_seed(seed)
    channels = train.targets.shape[1]
    scaling, module = (
        TargetScaling(channels),
        SpatialContextModule(
            train.context.shape[1], channels, schedule.hidden_channels, use_offset=use_offset
        ),
    )
    scaling.fit(train.targets)
    targets, trained, shown = scaling(train.targets), Trained(module, scaling, []), {}
    optimizer = torch.optim.SGD(
        module.parameters(), schedule.lr, schedule.momentum, weight_decay=schedule.weight_decay
    )
    count = schedule.epochs
    steps = torch.optim.lr_scheduler.StepLR(optimizer, max(count // 2, 1))

    def figures() -> str:
        return f"error {trained.errors[-1]:.3f}" if trained.errors else ""

    for epoch in show_time_left(range(1, count + 1), count, f"{title}, epoch", figures):
        module.train()
        for index in torch.randperm(len(targets)).split(schedule.batch):
            predicted = module(train.context[index], train.offsets[index])
            loss = context_loss(predicted, targets[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        steps.step()
        module.eval()
        trained.errors.append(trained.error(test))
        if epoch in kept:
            shown[epoch] = trained.predict(test)
    return trained, shown
