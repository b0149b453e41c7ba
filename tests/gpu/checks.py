"""Whether what is timed computes the right features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.gpu.contestants import Contestant, Run, one_line

TOLERANCE = {torch.float16: 2e-2, torch.float32: 1e-3}
"""Of the relative error, by the type of the features."""


def relative_error(features: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> float:
    """The largest ``||a - b|| / ||b||`` of the features; NaN if anything is NaN."""
    if set(features) != set(reference):
        raise ValueError(f"features {sorted(features)} are not {sorted(reference)}")
    errors = []
    for name, expected in reference.items():
        expected = expected.float()
        errors.append((features[name].float() - expected).norm() / expected.norm())
    errors = torch.stack(errors)
    return float(errors.sum() if errors.isnan().any() else errors.max())


@torch.no_grad()
def check(contestants: list[Contestant]) -> None:
    """Compares each contestant's features with its reference's; a wrong one gets an error.

    Those with the same reference and rate are compared on one batch of images and one choice.
    """
    checked: dict[tuple[int, float | None], list[Contestant]] = {}
    for one in contestants:
        if not one.error and one.reference is not None:
            checked.setdefault((id(one.reference), one.rate), []).append(one)
    for members in checked.values():
        with members[0].context():
            reference = copied(members[0].reference)
            for one in members:
                try:
                    one.difference = _difference(one, reference)
                except Exception as error:  # whatever it is, the others go on
                    one.error = one_line(error)
                else:
                    limit = TOLERANCE[next(iter(reference.values())).dtype]
                    if not one.difference <= limit:
                        one.error = f"features differ by {one.difference:.3g} of their norm"


def _difference(one: Contestant, reference: Mapping[str, Tensor]) -> float:
    if one.mode != "eager":
        # A graph writes to the same memory again: what it leaves unwritten shows.
        for feature in one.run().values():
            feature.fill_(torch.nan)
    return relative_error(one.run(), reference)


def copied(run: Run) -> dict[str, Tensor]:
    """The features of a forward pass, not overwritten by the next."""
    return {name: feature.clone() for name, feature in run().items()}
