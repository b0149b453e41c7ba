"""Teachers by config: what ``target_generator`` of a `SpatialContextNetwork` can be."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS

from dynbackbones import checkpoints
from dynbackbones.adaptation import PixelFormat
from dynbackbones.adaptation.pixels import IMAGENET_MEAN, IMAGENET_STD
from dynbackbones.adaptation.weights import load_weights
from dynbackbones.backbones import Backbone
from dynbackbones.checkpoints.digest import sha256_of
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.weights import load_pretrained
from dynbackbones.pretraining import Teacher, imagenet_teacher

OWN_PREFIX = "backbone."


@MODELS.register_module("ContextTeacher")
def context_teacher(
    backbone: Mapping[str, Any],
    pretrained: str | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    bgr: bool = False,
) -> Teacher:
    """A backbone of this package or of mmpretrain with weights from a file.

    Args:
        backbone: config of the network, without ``init_cfg``.
        pretrained: the file, a URL, or ``torchvision://resnet50``; refused unless it fits.
        mean, std, bgr: the normalisation that the weights expect, as of `PixelFormat`.

    Raises:
        UserError: there is no such file, it is another network's, or an option is wrong.
    """
    if pretrained is None:
        raise UserError(
            "ContextTeacher needs pretrained=..., a file with its weights: what an untrained "
            "network sees is not worth predicting"
        )
    try:
        pixels = PixelFormat(tuple(mean), tuple(std), bgr)
    except ValueError as error:
        raise UserError(f"ContextTeacher: {error}") from error
    network = MMPRETRAIN_MODELS.build(copy.deepcopy(dict(backbone)))
    if isinstance(network, Backbone):
        state = checkpoints.read_weights(pretrained)
        inside = any(key.startswith(OWN_PREFIX) for key in state)
        load_pretrained(network, pretrained, OWN_PREFIX if inside else None)
    else:
        # mmpretrain keeps timm's networks one level deeper.
        load_weights(getattr(network, "timm_model", network), pretrained)
    digest = sha256_of(checkpoints.local_file(pretrained))
    return Teacher(network, pixels, os.fspath(pretrained), digest)


@MODELS.register_module("ImageNetTeacher")
def efficientnet_lite0(pretrained: str) -> Teacher:
    """EfficientNet-Lite0; see `imagenet_teacher`."""
    return imagenet_teacher(pretrained)
