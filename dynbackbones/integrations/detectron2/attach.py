"""The one line that a detectron2 project adds to train a dynamic backbone."""

import logging
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dynbackbones.checkpoints import names as key_maps
from dynbackbones.integrations.attach import attach as attach_losses_and_sizes
from dynbackbones.integrations.detectron2.backbone import BackboneAdapter
from dynbackbones.training.handles import Handles


def attach(model: nn.Module) -> Handles:
    """Connects the dynamic backbones inside a detectron2 model with its training.

    As `dynbackbones.attach`. A network whose weights are a ResNet's also takes ImageNet weights of
    detectron2's model zoo, which detectron2 can match with its own ResNet only, and keeps what it
    decides with where a file has nothing of it. Our log goes where detectron2's goes.

    Args:
        model: any model that takes detectron2's list of dicts and returns a dict of losses in
            training (``RetinaNet``, ``GeneralizedRCNN``, ...).

    Returns:
        A handle whose ``remove()`` undoes it.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module
    _share_log()
    handles = [attach_losses_and_sizes(model)]
    for hook in (_place_resnet, _keep_decisions):
        handles.append(model.register_load_state_dict_pre_hook(hook))
    return Handles(handles)


def _share_log() -> None:
    """Has our log go where ``default_setup`` sends detectron2's, unless it is set up already."""
    ours, theirs = logging.getLogger("dynbackbones"), logging.getLogger("detectron2")
    if theirs.handlers and not ours.handlers:
        ours.setLevel(theirs.level)
        for handler in theirs.handlers:
            ours.addHandler(handler)


def _adapters_of_resnets(model: nn.Module) -> dict[str, BackboneAdapter]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BackboneAdapter) and module.net.holds_resnet
    }


def _keep_decisions(
    model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_args: Any
) -> None:
    """Load-state-dict pre-hook: adds what decides, as it is, to the weights of a plain detector.

    detectron2 would list every key of it as missing.
    """
    for name, adapter in _adapters_of_resnets(model).items():
        own = adapter.state_dict()
        missing = [f"net.{key}" for key in adapter.net.decision_keys()]
        place = f"{prefix}{name}."
        inside = {key.removeprefix(place) for key in state_dict if key.startswith(place)}
        if inside and not inside.intersection(missing):
            state_dict.update({place + key: own[key] for key in missing})


def _place_resnet(
    model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_args: Any
) -> None:
    """Load-state-dict pre-hook: moves the weights of a ResNet alone below the first adapter.

    On the outermost model, since inner ones see only what begins with their own names.
    """
    names = list(_adapters_of_resnets(model))
    for key in list(state_dict) if names else ():
        if key.startswith(prefix) and key_maps.from_detectron2(key.removeprefix(prefix)):
            place = f"{prefix}{names[0]}.{key.removeprefix(prefix)}"
            state_dict[place] = state_dict.pop(key)
