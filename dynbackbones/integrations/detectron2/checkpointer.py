"""detectron2's checkpointer, with every file checked before it is loaded."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling.backbone.resnet import ResNet
from torch import Tensor, nn

from dynbackbones import checkpoints
from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.blockdrop.network import BlockDropBackbone
from dynbackbones.checkpoints import names as key_maps
from dynbackbones.errors import UserError
from dynbackbones.integrations.detectron2.backbone import BackboneAdapter, renamed_resnet
from dynbackbones.integrations.pixel_format import warn_of_other_pixels
from dynbackbones.training.auxiliary import decision_keys

# What detectron2 unpickles by itself; everything else goes through `_torch_load`.
_UNPICKLED = (".pkl", ".pyth")
# What old checkpoints of detectron2's keep and its models no longer do.
_OBSOLETE = re.compile(r"anchor_generator\.cell_anchors|^pixel_(mean|std)$")


class CheckedCheckpointer(DetectionCheckpointer):
    """Loads nothing but weights, and only weights of the model's architecture.

    A file may hold a whole detector (for a BlockDrop network also one with a plain ResNet) or, to
    start training from, a backbone with or without a classifier in any layout of
    `key_maps.backbone_alone`, also for detectron2's own ResNets. Weights that
    detectron2 matches by its heuristics (its model zoo's) must cover the bottom-up backbone. A
    file without a policy network leaves a BlockDrop network's as it is.

    Args:
        model: the model to load into.
        save_dir: folder of the checkpoints.
        allow_other_heads: let layers outside the backbone keep their initial values where the
            file's have another shape, as when training goes on with other classes.
        checkpointables: see `DetectionCheckpointer`.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        allow_other_heads: bool = False,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.allow_other_heads = allow_other_heads
        self._file = ""

    def save(self, name: str, **kwargs: Any) -> None:
        """Saves the model and the checkpointables, with ``meta`` beside them."""
        super().save(name, meta={"engine": "detectron2"}, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        self._file = filename
        if filename.endswith(_UNPICKLED):
            checkpoints.load(filename)
        return super()._load_file(filename)

    def _torch_load(self, f: str) -> dict[str, Any]:
        checkpoint = checkpoints.load(f)
        input_format = getattr(self.model, "input_format", None)
        warn_of_other_pixels(checkpoint, self._file, input_format, self.logger)
        return {**checkpoint, "model": checkpoints.state_dict_of(checkpoint, f"checkpoint {f}")}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get("matching_heuristics", False):
            incompatible = super()._load_model(checkpoint)
            self._check_matched(incompatible.missing_keys)
            return incompatible
        state = self._placed(checkpoint["model"])
        if state is None:
            state = self._checked(checkpoint["model"])
        return super()._load_model({**checkpoint, "model": state})

    def _placed(self, file_state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Weights of a backbone alone under the names that they have in the model, if they are.

        A classifier's last layer, and what else does not belong to the backbone, is left out.
        """
        found = _find_backbone(self.model)
        if found is None:
            return None
        name, backbone = found
        outside = [key for key in self.model.state_dict() if not key.startswith(f"{name}.")]
        if file_state.keys() & set(outside):
            return None
        plain = not isinstance(backbone, Backbone)
        wanted = backbone.state_dict()
        if plain:
            wanted = key_maps.rename_detectron2(wanted)
        state, left_out = key_maps.backbone_alone(file_state, wanted) or (file_state, [])
        checkpoints.check_architecture(wanted, state, self._file, optional=decision_keys(backbone))
        rest = f"; left out {checkpoints.listed(left_out)}" if left_out else ""
        self.logger.info(
            f"loaded the backbone from {self._file}; pyramid and heads start from scratch{rest}"
        )
        # Frozen batch norm has no counters.
        state = {key: value for key, value in state.items() if key in wanted}
        if plain:
            state = {key_maps.to_detectron2(key): value for key, value in state.items()}
        return {f"{name}.{key}": value for key, value in state.items()}

    def _checked(self, file_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a whole model, less those that `allow_other_heads` leaves out."""
        model_state = self.model.state_dict()
        file_state = {k: v for k, v in file_state.items() if not _OBSOLETE.search(k)}
        for name, module in self.model.named_modules():
            if isinstance(module, BackboneAdapter) and isinstance(module.net, BlockDropBackbone):
                file_state = renamed_resnet(file_state, f"{name}.")
        if self.allow_other_heads:
            for key in model_state.keys() & file_state.keys():
                other = model_state[key].shape != file_state[key].shape
                if other and not key.startswith("backbone."):
                    logging.getLogger("dynbackbones").warning(
                        f"{key} is {tuple(file_state[key].shape)} in {self._file} and "
                        f"{tuple(model_state[key].shape)} here: it starts untrained"
                    )
                    del model_state[key], file_state[key]
        checkpoints.check_architecture(
            model_state, file_state, self._file, optional=decision_keys(self.model)
        )
        return file_state

    def _check_matched(self, missing: list[str]) -> None:
        """Refuses weights that detectron2's heuristics could not match with the backbone."""
        backbone = "backbone.bottom_up."
        policy = decision_keys(self.model)
        unmatched = [key for key in missing if key.startswith(backbone) and key not in policy]
        if unmatched:
            raise UserError(
                f"checkpoint {self._file} is of another architecture: it has nothing for "
                f"{len(unmatched)} keys of the backbone ({', '.join(unmatched[:3])}, ...); use "
                f"weights of {type(self.model.backbone.bottom_up).__name__}, or another backbone"
            )


def _find_backbone(model: nn.Module) -> tuple[str, nn.Module] | None:
    """The name and module of a network of this package, or of a ResNet of detectron2's."""
    for kind in (Backbone, ResNet):
        for name, module in model.named_modules():
            if isinstance(module, kind):
                return name, module
    return None
