"""Auxiliary losses of backbones in any model that returns a dict of losses."""

from torch import nn
from torch.utils.hooks import RemovableHandle

from dynbackbones.backbones.base import Backbone, find_backbones
from dynbackbones.backbones.dynamic import DynamicBackbone


def own_parameters(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Parameters of what decides in a model's backbones, for learning rates of their own.

    Returns:
        A dict with the keys of `DynamicBackbone.own_parameters`, such as ``"selector"``.
    """
    found: dict[str, list[nn.Parameter]] = {}
    for backbone in find_backbones(model):
        if isinstance(backbone, DynamicBackbone):
            for name, parameters in backbone.own_parameters().items():
                found.setdefault(name, []).extend(parameters)
    return found


def attach_auxiliary_losses(model: nn.Module) -> RemovableHandle:
    """Adds the backbones' auxiliary losses to the dict of losses that a model returns.

    One forward hook on the outermost model: detectron2's meta-architectures, mmseg's segmentors
    and torchvision's detectors return such dicts in training, so that loss scaling, logging and
    gradient accumulation see the auxiliary losses like any other. The hook looks for backbones in
    the module that it is called with, so that a deep copy of the model works by itself. Attaching
    twice is harmless.

    Args:
        model: the outermost module, before it is wrapped by DDP or the like.

    Returns:
        A handle whose ``remove()`` takes the hook away again.

    Raises:
        ValueError: the model is a wrapper or a backbone itself, or contains none of this package.

    Example:
        >>> import dynbackbones, torch
        >>> class Model(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.backbone = dynbackbones.build_backbone("sar_resnet18", target_rate=0.5)
        ...     def forward(self, images):
        ...         return {"loss": self.backbone(images)["res5"].square().mean()}
        >>> model = Model()
        >>> model.backbone.set_progress(1.0)  # the target rate is 0.5 by now
        >>> handle = dynbackbones.attach_auxiliary_losses(model)
        >>> losses = model(torch.rand(2, 3, 64, 64))
        >>> sorted(losses), bool(losses["loss_activation_rate"] > 0)
        (['loss', 'loss_activation_rate'], True)
        >>> handle.remove()
    """
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        raise ValueError(
            f"attach_auxiliary_losses got a {type(model).__name__}; attach to the model inside it "
            f"(model.module), before it is wrapped"
        )
    if isinstance(model, Backbone):
        raise ValueError(
            f"attach_auxiliary_losses got a bare {type(model).__name__}, which returns features; "
            f"attach to the model that returns losses"
        )
    if not find_backbones(model):
        raise ValueError(
            f"{type(model).__name__} contains no dynbackbones backbone; build it with one first"
        )
    return model.register_forward_hook(_add_auxiliary_losses)


def _add_auxiliary_losses(model: nn.Module, inputs, output):
    if not (model.training and isinstance(output, dict)):
        return None
    losses: dict = {}
    for backbone in find_backbones(model):
        if isinstance(backbone, DynamicBackbone):
            for name, value in backbone.auxiliary_losses().items():
                losses[name] = losses[name] + value if name in losses else value
    return {**output, **losses} if losses else None
