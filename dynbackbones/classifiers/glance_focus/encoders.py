"""What looks: a backbone of this package or a network of torchvision, by its name."""

from __future__ import annotations

import torch
from torch import nn

from dynbackbones.backbones import list_backbones
from dynbackbones.backbones.resnet import check_choice
from dynbackbones.classifiers.encoder import Encoder
from dynbackbones.classifiers.glance_focus.torchvision_encoder import NAMES, TorchvisionEncoder


def make_encoder(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """An `Encoder` or a `TorchvisionEncoder`.

    Raises:
        ValueError: the name is not known, or the network takes other images.
    """
    if name not in NAMES:
        check_choice("encoder", name, (*list_backbones(), *NAMES))
        return Encoder(name, num_classes, in_channels)
    if in_channels != 3:
        raise ValueError(f"in_channels must be 3 for torchvision's {name}, got {in_channels}")
    return TorchvisionEncoder(name, num_classes)


@torch.no_grad()
def map_shape(encoder: nn.Module, patch: int) -> tuple[int, int, int]:
    """(channels, height, width) of the last map of a patch."""
    training = encoder.training
    encoder.eval()
    shape = encoder.look(torch.zeros(1, encoder.in_channels, patch, patch)).map.shape[1:]
    encoder.train(training)
    return tuple(shape)
