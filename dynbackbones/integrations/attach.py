"""The one line that makes a model train its dynamic backbone, whatever its framework."""

from __future__ import annotations

import logging

from torch import nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.integrations.guidance import pass_guidance
from dynbackbones.integrations.image_sizes import pass_image_sizes
from dynbackbones.integrations.transformed import PassTransformed
from dynbackbones.training.auxiliary import attach_auxiliary_losses
from dynbackbones.training.handles import Handles


def attach(model: nn.Module) -> Handles:
    """Connects the backbones of this package inside a model with its training.

    In training the losses of the backbones join the dict of losses that the model returns. In
    every forward pass of a model of detectron2's, OpenMMLab's or torchvision's they learn the size
    of each image, so that padding counts nowhere; any other model passes ``image_sizes`` itself.
    Both happen in hooks that find the backbones in the model they are called with: a deep copy,
    such as an EMA model, works by itself.

    Schedules are the loop's to move: `dynbackbones.set_progress`, or the framework's hook.

    Args:
        model: the outermost module; one that is wrapped for distributed training is unwrapped. One
            without such a backbone, as a baseline has it, is left alone, with a line in the log.

    Returns:
        A handle whose ``remove()`` undoes it.

    Raises:
        ValueError: the model is a backbone itself.

    Example:
        >>> import dynbackbones, torch
        >>> class Model(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.backbone = dynbackbones.build_backbone("sar_resnet18")
        ...     def forward(self, images):
        ...         return {"loss": self.backbone(images)["res5"].square().mean()}
        >>> model = Model()
        >>> handle = dynbackbones.attach(model)
        >>> sorted(model(torch.rand(2, 3, 64, 64)))
        ['loss', 'loss_activation_rate']
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    if not find_backbones(model):
        logging.getLogger("dynbackbones").info(
            "%s has no backbone of this package: nothing to attach", type(model).__name__
        )
        return Handles([])
    handles = [
        attach_auxiliary_losses(model),
        model.register_forward_pre_hook(pass_image_sizes, with_kwargs=True),
        model.register_forward_pre_hook(pass_guidance, with_kwargs=True),
    ]
    transform = getattr(model, "transform", None)
    if isinstance(transform, nn.Module) and hasattr(transform, "image_mean"):
        handles.append(transform.register_forward_hook(PassTransformed(model.backbone)))
    return Handles(handles)
