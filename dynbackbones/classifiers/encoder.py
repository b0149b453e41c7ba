"""A backbone with average pooling and a linear layer behind it."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dynbackbones.backbones import build_backbone
from dynbackbones.backbones.decisions import Decisions


class Seen(NamedTuple):
    """What a network saw of images, before it says what they are.

    Attributes:
        map: (N, channels, h, w), its last feature map.
        vector: (N, channels), what its linear layer takes.
        ran: decisions of the pass, which know what it cost.
    """

    map: Tensor
    vector: Tensor
    ran: Decisions


class Looks(nn.Module, ABC):
    """Base of `Encoder` and of what stands in for it: ``fc`` says what it is that `look` saw."""

    fc: nn.Linear

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.look(images).vector).float()

    @abstractmethod
    def look(self, images: Tensor) -> Seen:
        """What it sees of images (N, in_channels, H, W)."""

    def macs(self, height: int, width: int) -> float:
        """Multiply-accumulates for an image of this size in pixels."""
        return self.look_macs(height, width) + self.fc.weight.numel()

    @abstractmethod
    def look_macs(self, height: int, width: int) -> float:
        """As `macs`, of `look` alone."""

    @property
    def trained(self) -> bool:
        """Whether it tells classes apart at all."""
        return bool(self.fc.weight.any())

    def start_untrained(self) -> None:
        """Gives every class the same score: a classifier that was never trained has no opinion."""
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)


class Encoder(Looks):
    """A classifier of whole images, one of those that a classifier of patches is made of.

    Args:
        backbone: name, see `list_backbones`.
        num_classes: number of classes.
        in_channels: channels of the images.

    Shape:
        (N, in_channels, H, W) to (N, num_classes) float32 logits.
    """

    def __init__(self, backbone: str, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.backbone = build_backbone(backbone, in_channels=in_channels)
        self.feature = list(self.backbone.feature_info)[-1]
        self.fc = nn.Linear(self.backbone.feature_info[self.feature].channels, num_classes)
        self.start_untrained()

    def look(self, images: Tensor) -> Seen:
        last = self.backbone(images)[self.feature]
        return Seen(last, last.mean(dim=(2, 3)), self.backbone.decisions)

    def look_macs(self, height: int, width: int) -> float:
        return self.backbone.macs(height, width)

    def spent(self, rows: Tensor | None, images: int, ran: Decisions) -> Tensor:
        """Multiply-accumulates by image of a pass over some images of a batch.

        Args:
            rows: (M,) images that each row of the pass was of; None for all in order.
            images: N.
            ran: decisions of the pass.

        Returns:
            (N,) float64.
        """
        own = ran.macs + self.fc.weight.numel()
        if rows is None:
            return own
        return torch.zeros(images, dtype=torch.float64).index_add_(0, rows.cpu(), own)
