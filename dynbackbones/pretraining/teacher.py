"""A fixed network whose features are to be predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dynbackbones.adaptation.pixels import PixelFormat


class Teacher:
    """The top stream: a network in evaluation, without gradients, that no module contains.

    It is no part of a model that holds it: neither of its weights nor of its backbones, so that
    costs, schedules and files are the student's alone. It goes to the device of the images.

    Args:
        network: any network; its last features are averaged over the image, see `pooled`.
        pixels: the normalisation of images that it expects.
        source: names where its weights are from, in files.
        sha256: of the file of its weights; empty if there is none.

    Example:
        >>> import dynbackbones, torch
        >>> from dynbackbones.pretraining import Teacher
        >>> teacher = Teacher(dynbackbones.build_backbone("resnet18"))
        >>> teacher(torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)).shape
        torch.Size([2, 512])
    """

    def __init__(
        self,
        network: nn.Module,
        pixels: PixelFormat | None = None,
        source: str = "",
        sha256: str = "",
    ) -> None:
        # Not in one line: OpenMMLab's networks return nothing from train and eval.
        network.eval()
        self.network = network.requires_grad_(False)
        self.pixels = pixels or PixelFormat()
        self.source, self.sha256 = source, sha256

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, C) features of (N, 3, H, W) RGB images of 0 to 255."""
        self.network.to(images.device)
        return pooled(self.network(self.pixels.from_rgb(images))).float()

    def channels(self) -> int:
        """C, found by looking at a small image."""
        device = next(iter(self.network.parameters())).device
        return self(torch.zeros(1, 3, 64, 64, device=device)).shape[1]


def pooled(features: Mapping[str, Tensor] | Sequence[Tensor] | Tensor) -> Tensor:
    """(N, C): the last of some features, maps averaged over their area.

    Args:
        features: as this package's backbones, OpenMMLab's, or any network give them.

    Raises:
        ValueError: the last is neither (N, C) nor (N, C, H, W).

    Example:
        >>> import torch
        >>> from dynbackbones.pretraining import pooled
        >>> pooled({"res4": torch.rand(2, 8, 4, 4), "res5": torch.ones(2, 16, 2, 2)}).shape
        torch.Size([2, 16])
    """
    if isinstance(features, Mapping):
        features = list(features.values())
    last = features if isinstance(features, Tensor) else features[-1]
    if last.dim() == 4:
        return last.mean(dim=(2, 3))
    if last.dim() != 2:
        raise ValueError(f"features must be (N, C) or (N, C, H, W), got {tuple(last.shape)}")
    return last
