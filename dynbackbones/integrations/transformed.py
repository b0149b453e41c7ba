"""What a torchvision detector's transform makes of its images and targets."""

from __future__ import annotations

from torch import nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.integrations.guidance import pass_boxes


class PassTransformed:
    """Forward hook of the transform, which resizes and pads: tells the backbones behind it.

    They learn the sizes of the images, and where the boxes are if these guide them.

    An object and not a closure, because a deep copy of the detector then refers to the copy of its
    backbone.

    Args:
        body: module with the backbones.
    """

    def __init__(self, body: nn.Module) -> None:
        self.body = body

    def __call__(self, module: nn.Module, args: tuple, output: tuple) -> None:
        images, targets = output
        for backbone in find_backbones(self.body):
            backbone.set_image_sizes(images.image_sizes)
        pass_boxes(self.body, targets)
