"""Whether a converted checkpoint's network computes what the file's did."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from dynbackbones.checkpoints.conversion import Conversion
from dynbackbones.cli import library_networks
from dynbackbones.cli.library_networks import NotBuilt, Outputs
from dynbackbones.errors import UserError

TOLERANCE = 1e-3
"""Largest difference between two networks' outputs, relative to the outputs' largest value."""
_IMAGE_SIZE = (96, 64)
_NAMES = {"caffe2": "detectron2", "blockdrop": "the published BlockDrop code"}


@dataclass
class Verification:
    """How far a checkpoint's networks agree before and after conversion.

    Attributes:
        networks: what was run.
        difference: the largest difference of an output from this package's network; None if
            nothing else could be run.
        relative: the same, over the largest value of that output.
        problems: why a network could not be run; empty if both were.
    """

    networks: list[str] = field(default_factory=list)
    difference: float | None = None
    relative: float | None = None
    problems: list[str] = field(default_factory=list)

    def as_meta(self) -> dict[str, Any]:
        """Plain data for a checkpoint's ``meta``."""
        return {
            "verified": not self.problems,
            "networks": list(self.networks),
            "largest_difference": self.difference,
            "relative": self.relative,
            "problems": list(self.problems),
        }

    def __str__(self) -> str:
        found = []
        if self.difference is not None:
            both = "give the same outputs"
            one = "gives the same outputs as this package's network"
            found = [
                f"{' and '.join(self.networks)} {both if len(self.networks) > 1 else one}: largest "
                f"difference {self.difference:.2g}, relative {self.relative:.2g}"
            ]
        if not self.problems:
            return f"verified: {found[0]}"
        return "; ".join(["NOT verified: " + "; ".join(self.problems), *found])


def verify(conversion: Conversion) -> Verification:
    """Runs the file's network and the result's on random images and compares them.

    Both are compared with this package's network: features of all stages and, with a classifier,
    its scores.

    Raises:
        UserError: the networks differ.
    """
    architecture, source = conversion.architecture, conversion.source
    images = torch.randn(
        2,
        architecture.options.get("in_channels", 3),
        *_IMAGE_SIZE,
        generator=torch.Generator().manual_seed(0),
    )
    with _quiet():
        own = library_networks.run(
            "dynbackbones", architecture, conversion.backbone, conversion.head, images
        )
    layout, result = conversion.layout, Verification()
    before = {key.removeprefix(source.prefix): source.state[key] for key in source.names}
    after = {layout.bare(name): value for name, value in conversion.backbone.items()}
    for side, library, state in (
        ("the file", "caffe2" if source.caffe2 else source.format, before),
        ("the result", layout.format, after),
    ):
        name = f"{_NAMES.get(library, library)} ({side})"
        try:
            with _quiet(), torch.random.fork_rng(devices=[]):
                outputs = library_networks.run(
                    library, architecture, state, conversion.head, images
                )
        except NotBuilt as error:
            result.problems.append(f"{side} was not run in {_NAMES.get(library, library)}, {error}")
            continue
        result.networks.append(name)
        _compare(own, outputs, name, result)
    return result


def _compare(own: Outputs, other: Outputs, name: str, result: Verification) -> None:
    for output, value in other.items():
        difference = float((value - own[output]).abs().max())
        relative = difference / max(float(own[output].abs().max()), 1e-12)
        if not relative <= TOLERANCE:
            raise UserError(
                f"{output} of {name} differs from this package's network by {difference:.2g} "
                f"(relative {relative:.2g}): nothing is written"
            )
        result.difference = max(result.difference or 0.0, difference)
        result.relative = max(result.relative or 0.0, relative)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what networks say of their weights, and libraries of each other."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
