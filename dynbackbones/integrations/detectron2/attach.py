"""The one line that a detectron2 project adds to train a dynamic backbone."""

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
    detectron2's model zoo, which detectron2 can match with its own ResNet only.

    Args:
        model: any model that takes detectron2's list of dicts and returns a dict of losses in
            training (``RetinaNet``, ``GeneralizedRCNN``, ...).

    Returns:
        A handle whose ``remove()`` undoes it.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module
    handles = attach_losses_and_sizes(model)
    return Handles([handles, model.register_load_state_dict_pre_hook(_place_resnet)])


def _place_resnet(
    model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_args: Any
) -> None:
    """Load-state-dict pre-hook: moves the weights of a ResNet alone below the first adapter.

    On the outermost model, since inner ones see only what begins with their own names.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, BackboneAdapter) and module.net.holds_resnet
    ]
    for key in list(state_dict) if names else ():
        if key.startswith(prefix) and key_maps.from_detectron2(key.removeprefix(prefix)):
            place = f"{prefix}{names[0]}.{key.removeprefix(prefix)}"
            state_dict[place] = state_dict.pop(key)
