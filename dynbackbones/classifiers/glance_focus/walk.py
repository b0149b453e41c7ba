"""One forward pass: images go from look to look, and leave when they are sure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dynbackbones.backbones.decisions import Batch, Decisions
from dynbackbones.classifiers.glance_focus.crops import corners_of, crop
from dynbackbones.classifiers.glance_focus.decisions import FocusDecisions
from dynbackbones.classifiers.glance_focus.selection import FocusSelection

if TYPE_CHECKING:
    from dynbackbones.classifiers.glance_focus.network import GlanceFocusClassifier, Look

Ran = list[tuple[Tensor, Decisions]]


class AnytimeStep(NamedTuple):
    """What `GlanceFocusClassifier.anytime` knows after a step.

    Attributes:
        logp: (N, classes) log-probabilities.
        confidences: (N,) of the most probable class.
        corners: (N, 2) row and column of the first pixel of the crop; None after the glance.
        macs: multiply-accumulates of an image so far.
    """

    logp: Tensor
    confidences: Tensor
    corners: Tensor | None
    macs: float


class Walk:
    """A batch on its way through the steps of a network.

    Args:
        net: the network.
        images: (N, C, H, W).
        batch: what they are.
    """

    def __init__(self, net: GlanceFocusClassifier, images: Tensor, batch: Batch) -> None:
        self.net, self.images, self.batch = net, images, batch
        count, selection = len(images), net.selection
        self.wanted = None if selection is None else selection.steps(count, net.steps)
        self.corners = self._given(selection)
        self.looked_at = torch.full((count, net.steps - 1, 2), -1)
        self.confidences = torch.full((count, net.steps), math.nan)
        self.classes = torch.full((count, net.steps), -1)
        self.steps = torch.zeros(count, dtype=torch.long)
        self.ran: Ran = []

    def _given(self, selection: FocusSelection | None) -> Tensor | None:
        """(N, T - 1, 2) row and column of each crop where they are not the learned ones."""
        if selection is None:
            return None
        places = selection.places(len(self.images), self.net.steps)
        if places is not None:
            return corners_of(places, self.batch.size, self.net.patch)
        return getattr(selection.kind, "corners", None)

    def run(self) -> Tensor:
        """Log-probabilities (N, classes); sets the network's decisions."""
        net, rows = self.net, torch.arange(len(self.images), device=self.images.device)
        look, memory, results = net.look_whole(self.images), None, []
        for step in range(1, net.steps + 1):
            logp = look.logits.log_softmax(dim=1)
            leaves = self._record(step, rows, look, logp)
            results.append((rows[leaves], logp[leaves]))
            if bool(leaves.all()):
                break
            stays = ~leaves
            rows, seen, state = rows[stays], look.seen.map[stays], look.state[stays]
            proposed = net.proposal(seen, None if memory is None else memory[stays])
            memory = proposed.memory
            corners = self._choose(step, rows, proposed.place)
            look = net.look_closer(crop(self.images, rows, corners, net.patch), state)
        owners, logp = (torch.cat(parts) for parts in zip(*results, strict=True))
        net._traces.mine.decisions = FocusDecisions(
            self.batch, partial(_count, net, self.ran), self.steps, self.looked_at,
            self.confidences, self.classes, net.patch,
        )  # fmt: skip
        return torch.zeros_like(logp).index_copy(0, owners, logp)

    def _record(self, step: int, rows: Tensor, look: Look, logp: Tensor) -> Tensor:
        """Which of the images leave after a step: (M,) bool."""
        (highest, classes), where = logp.detach().max(dim=1), rows.cpu()
        confidences = highest.exp()
        self.classes[where, step - 1] = classes.cpu()
        self.confidences[where, step - 1] = confidences.float().cpu()
        self.steps[where] = step
        self.ran.append((where, look.seen.ran))
        if self.wanted is not None:
            return (self.wanted[where] == step).to(rows.device)
        if step == self.net.steps:
            return torch.ones_like(rows, dtype=torch.bool)
        return confidences >= self.net.exits[step - 1]

    def _choose(self, step: int, rows: Tensor, places: Tensor) -> Tensor:
        """(M, 2) row and column of the crop after a step."""
        corners = corners_of(places, self.batch.size, self.net.patch)
        where = rows.cpu()
        if self.corners is not None:
            corners = self._inside(self.corners.cpu()[where, step - 1]).to(rows.device)
        self.looked_at[where, step - 1] = corners.cpu()
        return corners

    def _inside(self, corners: Tensor) -> Tensor:
        room = torch.tensor(self.batch.size) - self.net.patch
        if bool(((corners < 0) | (corners > room)).any()):
            raise ValueError(
                f"selection has corners outside of the images, which leave (0, 0) to "
                f"{tuple(room.tolist())} to crops of {self.net.patch} pixels"
            )
        return corners


def anytime_steps(net: GlanceFocusClassifier, images: Tensor) -> Iterator[AnytimeStep]:
    """See `GlanceFocusClassifier.anytime`."""
    size, rows = net.check_images(images).size, torch.arange(len(images), device=images.device)
    look, memory, corners, macs = net.look_whole(images), None, None, 0.0
    for step in range(1, net.steps + 1):
        macs += float(look.seen.ran.macs.mean()) + net.extra_macs(step)
        logp = look.logits.log_softmax(dim=1)
        yield AnytimeStep(logp, logp.amax(dim=1).exp(), corners, macs)
        if step < net.steps:
            proposed = net.proposal(look.seen.map, memory)
            memory, corners = proposed.memory, corners_of(proposed.place, size, net.patch)
            look = net.look_closer(crop(images, rows, corners, net.patch), look.state)


def walk_traced(net: GlanceFocusClassifier, images: Tensor) -> Tensor:
    """As `Walk.run` without a Python decision: all steps run, each image keeps its own's answer."""
    rows = torch.arange(len(images), device=images.device)
    look, memory = net.look_whole(images), None
    kept, gone = None, None
    for step in range(1, net.steps + 1):
        logp = look.logits.log_softmax(dim=1)
        kept = logp if kept is None else torch.where(gone, kept, logp)
        sure = logp.amax(dim=1, keepdim=True).exp() >= net.exits[step - 1]
        gone = sure if gone is None else gone | sure
        if step < net.steps:
            proposed = net.proposal(look.seen.map, memory)
            memory = proposed.memory
            corners = corners_of(proposed.place, tuple(images.shape[-2:]), net.patch)
            look = net.look_closer(crop(images, rows, corners, net.patch), look.state)
    return kept


def _count(net: GlanceFocusClassifier, ran: Ran, decisions: FocusDecisions) -> Tensor:
    """(N, T), see `FocusDecisions.step_macs`."""
    total = torch.zeros(decisions.batch.num_images, net.steps, dtype=torch.float64)
    for step, (rows, seen) in enumerate(ran, start=1):
        total[rows, step - 1] = seen.macs + net.extra_macs(step)
    return total
