"""Options that detectors and segmentors share, and which values of them make sense."""

from __future__ import annotations

import math

from dynbackbones.zoom.learned import LearnedPolicy
from dynbackbones.zoom.policies import POLICIES, Policy

FIXED = {"all": 1.0, "none": 0.0}
"""Policies whose rate is what their name says."""


def find_policy(policy: str | LearnedPolicy) -> Policy:
    """A policy by its name, or a trained one as it is.

    Raises:
        ValueError: the name is unknown.
    """
    if isinstance(policy, LearnedPolicy):
        return policy
    if policy in FIXED:
        return POLICIES["center"]
    if policy not in POLICIES:
        known = ", ".join([*POLICIES, *FIXED])
        raise ValueError(f"policy must be a trained one or one of {known}, got {policy!r}")
    return POLICIES[policy]


def find_rate(policy: str | LearnedPolicy, rate: float | None) -> float:
    """The share of patches to look at, by default a quarter.

    Raises:
        ValueError: it is out of range, or the policy has one of its own.
    """
    if isinstance(policy, str) and policy in FIXED:
        if rate is not None:
            raise ValueError(f"policy {policy!r} has no rate: leave rate away, got {rate}")
        return FIXED[policy]
    rate = 0.25 if rate is None else rate
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie in [0, 1], got {rate}")
    return float(rate)


def check_options(
    patch: int, scale: float, halo: int, batch_crops: int, model_scale: float
) -> None:
    """Refuses what no image could be cut by.

    Raises:
        ValueError: an option is out of range; it is named.
    """
    for name, value in (("patch", patch), ("batch_crops", batch_crops)):
        if value != int(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
    if not (math.isfinite(scale) and scale > 1):
        raise ValueError(
            f"scale must be larger than 1, got {scale}: the coarse pass would see all that a "
            "closer look shows"
        )
    if halo != int(halo) or not 0 <= halo < patch:
        raise ValueError(f"halo must be at least 0 and smaller than patch {patch}, got {halo}")
    if not (math.isfinite(model_scale) and model_scale > 0):
        raise ValueError(f"model_scale must be positive, got {model_scale}")
