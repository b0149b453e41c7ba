"""Conditional hard positives: training images without what a policy finds most telling.

Uzkent and Ermon, CVPR 2020, section 7.
"""

import torch
from torch import Tensor

from dynbackbones.classifiers.patchdrop import PatchDrop
from dynbackbones.classifiers.views import masked

WAYS = ("policy", "random")


@torch.no_grad()
def hard_positives(
    net: PatchDrop,
    images: Tensor,
    *,
    most: int = 4,
    probability: float = 1.0,
    way: str = "policy",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Images with a few patches blanked, to train another classifier on.

    Of each image 1 to ``most`` patches, equally likely, are blanked: those that the policy would
    most probably choose.

    Args:
        net: with a trained policy (stage "joint" in the paper); its mode is restored.
        images: (N, C, H, W), normalised.
        most: patches at most.
        probability: of an image to be changed at all.
        way: ``"random"`` blanks random patches instead, the control that it must beat.
        generator: of the CPU; None for torch's own.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: an option is out of range, or the policy does not take part in the stage.
    """
    if way not in WAYS:
        raise ValueError(f"way must be one of {', '.join(WAYS)}, got {way!r}")
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    if not 1 <= most <= net.grid**2:
        raise ValueError(f"most must lie in 1..{net.grid**2} patches, got {most}")
    if not net.decides:
        raise ValueError(f"the policy has no part in stage {net.stage!r}; set stage 'joint'")
    was_training = net.training
    net.eval()
    view = net.view(images)
    scores = torch.rand(len(images), net.grid**2, generator=generator)
    if way == "policy":
        scores = net.policy_probabilities(view).cpu()
    net.train(was_training)
    count = torch.randint(1, most + 1, (len(images), 1), generator=generator)
    changed = torch.rand(len(images), 1, generator=generator) < probability
    ranks = scores.argsort(dim=1, descending=True).argsort(dim=1)
    blanked = (ranks < count) & changed
    return masked(view, ~blanked.to(images.device), "mean")
