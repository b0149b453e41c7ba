"""detectron2's checkpointer, with every file checked before it is loaded."""

import logging
import os
import re
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling.backbone.resnet import ResNet
from torch import nn

from dynbackbones import checkpoints
from dynbackbones.backbones.base import Backbone
from dynbackbones.checkpoints.finite import check_finite, not_finite
from dynbackbones.checkpoints.fit import fit
from dynbackbones.checkpoints.whole_file import whole_file
from dynbackbones.errors import UserError
from dynbackbones.integrations.console import TO_CONSOLE
from dynbackbones.integrations.engine import naming_the_engine
from dynbackbones.integrations.pixel_format import warn_of_other_pixels
from dynbackbones.training.faults import weights_diverged
from dynbackbones.training.run_folder import checkpoint_to_resume

# What detectron2 would unpickle by itself; everything else goes through `_torch_load`.
_UNPICKLED = (".pkl", ".pyth")
NO_LAST = "write the name of the one to continue from into it, or name another folder"
# What old checkpoints of detectron2's keep and its models no longer do.
_OBSOLETE = re.compile(r"anchor_generator\.cell_anchors|^pixel_(mean|std)$")


class CheckedCheckpointer(DetectionCheckpointer):
    """Loads nothing but weights, and only weights of the model's architecture.

    A file may hold what `dynbackbones.load_weights` takes, also for detectron2's own ResNets.
    Weights that detectron2 matches by its heuristics (its model zoo's) must cover the bottom-up
    backbone.

    Args:
        model: the model to load into.
        save_dir: folder of the checkpoints.
        allow_other_heads: see `dynbackbones.load_weights`.
        checkpointables: see `DetectionCheckpointer`.

    Attributes:
        meta: what files are to say of the model beside its weights.
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
        self.meta: dict[str, Any] = {"engine": "detectron2"}
        self._file = self._said = ""

    def save(self, name: str, **kwargs: Any) -> None:
        """Saves the model and the checkpointables, with ``meta`` beside them.

        As the base class does, but the file is there whole or not at all.

        Raises:
            UserError: the weights are not finite, or the file cannot be written.
        """
        if not (self.save_dir and self.save_to_disk):
            return
        parts = {key: part.state_dict() for key, part in self.checkpointables.items()}
        data = {"model": self.model.state_dict(), **parts, "meta": self.meta}
        names = not_finite(data["model"])
        if names:
            done = kwargs.get("iteration", -1) + 1
            raise weights_diverged(self.save_dir, done, names, len(data["model"]))
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        with whole_file(path) as file:
            torch.save(data | kwargs, file)
        self.tag_last_checkpoint(path.name)

    def get_checkpoint_file(self) -> str:
        """The last whole checkpoint; empty where there is none.

        Raises:
            UserError: see `checkpoint_to_resume`.
        """
        path, word = checkpoint_to_resume(self.save_dir, NO_LAST)
        if word and word != self._said:
            self._said = word
            logging.getLogger("dynbackbones").warning(word)
        return "" if path is None else os.fspath(path)

    def has_checkpoint(self) -> bool:
        return bool(self.get_checkpoint_file())

    def _load_file(self, filename: str) -> dict[str, Any]:
        self._file = filename
        if filename.endswith(_UNPICKLED):
            return _read_zoo(filename)
        return super()._load_file(filename)

    def _torch_load(self, f: str) -> dict[str, Any]:
        checkpoint = checkpoints.load(f)
        input_format = getattr(self.model, "input_format", None)
        warn_of_other_pixels(checkpoint, self._file, input_format, self.logger)
        return {**checkpoint, "model": checkpoints.state_dict_of(checkpoint, f"checkpoint {f}")}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get("matching_heuristics", False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            check_finite(checkpoint["model"], f"checkpoint {self._file}")
            incompatible = super()._load_model(checkpoint)
            self._check_matched(incompatible.missing_keys)
            return incompatible
        with naming_the_engine(checkpoint, self._file, "detectron2"):
            state, report = fit(
                self.model.state_dict(),
                _place_of_backbone(self.model),
                checkpoint["model"].but(_OBSOLETE),
                self._file,
                optional=checkpoints.decision_keys(self.model),
                allow_other_heads=self.allow_other_heads,
            )
        self.logger.info(str(report), extra=TO_CONSOLE)
        for line in report.untrained():
            logging.getLogger("dynbackbones").warning(line)
        return super()._load_model({**checkpoint, "model": state})

    def _check_matched(self, missing: list[str]) -> None:
        """Refuses weights that detectron2's heuristics could not match with the backbone."""
        backbone = "backbone.bottom_up."
        policy = checkpoints.decision_keys(self.model)
        unmatched = [key for key in missing if key.startswith(backbone) and key not in policy]
        if unmatched:
            raise UserError(
                f"checkpoint {self._file} is of another architecture: it has nothing for "
                f"{len(unmatched)} keys of the backbone ({', '.join(unmatched[:3])}, ...); use "
                f"weights of {type(self.model.backbone.bottom_up).__name__}, or another backbone"
            )


def _read_zoo(path: str) -> dict[str, Any]:
    """What detectron2 makes of a file of its model zoo's, of Caffe2's or of pycls's."""
    content = checkpoints.load(path)
    weights = checkpoints.state_dict_of(content, f"checkpoint {path}")
    if "model" in content and "__author__" in content:
        return {**content, "model": weights}
    pycls = path.endswith(".pyth")
    left_out = "num_batches_tracked" if pycls else "_momentum"
    return {
        "model": {key: value for key, value in weights.items() if not key.endswith(left_out)},
        "__author__": "pycls" if pycls else "Caffe2",
        "matching_heuristics": True,
    }


def _place_of_backbone(model: nn.Module) -> str | None:
    """Prefix of the names of a network of this package, or of a ResNet of detectron2's."""
    for kind in (Backbone, ResNet):
        for name, module in model.named_modules():
            if isinstance(module, kind):
                return f"{name}."
    return None
