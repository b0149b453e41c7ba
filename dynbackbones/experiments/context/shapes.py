"""Shapes of which the offset tells which they are: what a context module must be able to learn.

The dissertation's 5.4.1, without ImageNet's weights: both streams are a convolutional network with
random weights and no norm layers, as it leaves a square, a triangle and black as different as the
experiment needs, and the student is frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynbackbones.adaptation import PixelFormat, build_encoder
from dynbackbones.demo.shapes import EDGE, shape_pairs
from dynbackbones.experiments.context.frozen import Pairs, Schedule, train_context
from dynbackbones.experiments.steps import Cells
from dynbackbones.pretraining import Teacher, cut_patches, offsets_between

SCHEDULE = Schedule(epochs=200)
TRAIN = 600
PATCH = 64
PIXELS = 32  # edge of a patch whose pixels are the target
ROWS = {
    "with": "with offsets",
    "without": "without offsets",
    "shuffled": "offsets shuffled among pairs",
}


class Shapes(NamedTuple):
    """All pairs.

    Attributes:
        pairs: as features of a random network.
        kinds: (N,) of the targets.
        patches: (N, 3, PATCH, PATCH) uint8 targets.
    """

    pairs: Pairs
    kinds: Tensor
    patches: Tensor


def shapes(seed: int) -> Shapes:
    """The pairs of a seed, in the features of a network with that seed's weights."""
    torch.manual_seed(seed)
    network = build_encoder("small_vgg", weights="random")
    teacher = Teacher(network, PixelFormat((0.0,) * 3, (1.0,) * 3))
    found = list(shape_pairs(seed))
    seen, hidden = (
        torch.cat([cut_patches(pair.image, [getattr(pair, name)], PATCH) for pair in found])
        for name in ("context", "target")
    )
    boxes = [torch.tensor([getattr(p, name) for p in found]) for name in ("target", "context")]
    offsets = offsets_between(*boxes, torch.full((len(found), 2), EDGE))
    context, targets = (
        torch.cat([teacher(part) for part in patches.split(100)]) for patches in (seen, hidden)
    )
    kinds = torch.tensor([pair.kind for pair in found])
    return Shapes(Pairs(context, offsets, targets), kinds, hidden)


def run(output: Path, seed: int) -> dict[str, Any]:
    """Errors after each epoch of the three rows, kept in a folder."""
    cells = Cells(output / f"seed{seed}", vars(SCHEDULE))
    made: list[Shapes] = []
    results = {}
    for name, title in ROWS.items():

        def make(name: str = name, title: str = title) -> dict[str, Any]:
            if not made:
                made.append(shapes(seed))
            pairs = made[0].pairs.shuffled(seed) if name == "shuffled" else made[0].pairs
            trained, _ = train_context(
                pairs.part(slice(TRAIN)),
                pairs.part(slice(TRAIN, None)),
                SCHEDULE,
                seed=seed,
                title=f"shapes, seed {seed}, {title}",
                use_offset=name != "without",
            )
            return {"errors": trained.errors}

        results[name] = cells.made(f"shapes-{name}", make)
    return results


def pixel_targets(made: Shapes) -> Pairs:
    """The same pairs, whose targets are pixels (N, PIXELS**2) of 0 to 1."""
    grey = made.patches[:, :1].float() / 255
    small = torch.nn.functional.interpolate(grey, (PIXELS, PIXELS), mode="area")
    return made.pairs._replace(targets=small.flatten(1))
