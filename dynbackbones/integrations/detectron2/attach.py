"""The one line that a detectron2 project adds to train a dynamic backbone."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dynbackbones.backbones.base import find_backbones
from dynbackbones.backbones.blockdrop.network import BlockDropBackbone
from dynbackbones.checkpoints import names as key_maps
from dynbackbones.integrations.detectron2.backbone import BackboneAdapter
from dynbackbones.training.auxiliary import attach_auxiliary_losses


class AttachedHandle:
    """Undoes an `attach`.

    Args:
        handles: of the hooks that it placed.
    """

    def __init__(self, handles: Sequence[Any]) -> None:
        self._handles = list(handles)

    def remove(self) -> None:
        """Removes the hooks; removing twice does nothing."""
        while self._handles:
            self._handles.pop().remove()


def attach(model: nn.Module) -> AttachedHandle:
    """Connects the dynamic backbones inside a detectron2 model with its training.

    In training the losses of the backbones join the dict of losses that the model returns. In
    every forward pass they learn the size of each image, so that padding counts nowhere. Both
    happen in hooks that find the backbones in the model they are called with: a deep copy, such as
    an EMA model, works by itself. A BlockDrop network also takes ImageNet weights of detectron2's
    model zoo, which detectron2 can match with its own ResNet only.

    Args:
        model: any model that takes detectron2's list of dicts and returns a dict of losses in
            training (``RetinaNet``, ``GeneralizedRCNN``, ...).

    Returns:
        A handle whose ``remove()`` undoes it.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module
    return AttachedHandle(
        [
            attach_auxiliary_losses(model),
            model.register_forward_pre_hook(_pass_image_sizes),
            model.register_load_state_dict_pre_hook(_place_resnet),
        ]
    )


def _place_resnet(
    model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_args: Any
) -> None:
    """Load-state-dict pre-hook: moves the weights of a ResNet alone below the first adapter.

    On the outermost model, since inner ones see only what begins with their own names.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, BackboneAdapter) and isinstance(module.net, BlockDropBackbone)
    ]
    for key in list(state_dict) if names else ():
        if key.startswith(prefix) and key_maps.from_detectron2(key.removeprefix(prefix)):
            place = f"{prefix}{names[0]}.{key.removeprefix(prefix)}"
            state_dict[place] = state_dict.pop(key)


def _pass_image_sizes(model: nn.Module, args: tuple[Any, ...]) -> None:
    """Forward pre-hook: ``args`` is ``(batched_inputs,)``, each with an ``"image"`` (C, H, W)."""
    batched_inputs = args[0] if args else None
    if not _is_batch(batched_inputs):
        return
    sizes = [tuple(map(int, inputs["image"].shape[-2:])) for inputs in batched_inputs]
    for backbone in find_backbones(model):
        backbone.set_image_sizes(sizes)


def _is_batch(batched_inputs: Any) -> bool:
    return isinstance(batched_inputs, Sequence) and all(
        isinstance(inputs, Mapping) and "image" in inputs for inputs in batched_inputs
    )
