"""Loading MODEL.WEIGHTS into a detector of the embedded engine."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from torch import Tensor, nn

from dynbackbones import checkpoints
from dynbackbones.backbones.base import find_backbones
from dynbackbones.checkpoints import names as key_maps
from dynbackbones.errors import UserError
from dynbackbones.training.auxiliary import decision_keys

# The detector inside the model that mmengine trains (`model.DetectorModel`).
DETECTOR_PREFIX = "detector."


def load_weights(
    detector: nn.Module, path: str, logger: logging.Logger | None = None, *, whole: bool = False
) -> None:
    """Loads a checkpoint of the whole detector, or of its backbone alone.

    A BlockDrop detector also takes one with a plain ResNet; its policy network then stays as it is.

    Args:
        detector: of `build_detector`.
        path: a local ``.pth`` file, in any layout that `dynbackbones.checkpoints` knows; a backbone
            in any that `key_maps.backbone_alone` knows.
        logger: where to say what was loaded and what was left out.
        whole: warn about a backbone alone: the detector will not be trained.

    Raises:
        UserError: not a local file, not a checkpoint, or of another architecture.
    """
    logger = logger or logging.getLogger(__name__)
    if re.match(r"^[\w-]+://", path):
        raise UserError(
            f"MODEL.WEIGHTS {path} is not a local file: the torchvision engine downloads nothing; "
            "download it and give its path"
        )
    state = checkpoints.state_dict_of(checkpoints.load(path), path)
    if all(key.startswith(DETECTOR_PREFIX) for key in state):
        state = {key.removeprefix(DETECTOR_PREFIX): value for key, value in state.items()}
    body = find_backbones(detector)[0]
    alone = key_maps.backbone_alone(state, body.state_dict())
    if alone is not None:
        state, left_out = alone
        _load(body, state, path)
        rest = f"; left out {checkpoints.listed(left_out)}" if left_out else ""
        logger.log(
            logging.WARNING if whole else logging.INFO,
            "loaded the backbone from %s; pyramid and heads %s%s",
            path,
            "are not trained, and find nothing" if whole else "start from scratch",
            rest,
        )
        return
    _load(detector, state, path)
    logger.info("loaded the detector from %s", path)


def weights_path(cfg) -> str:
    """``MODEL.WEIGHTS``, or the result of the run in ``OUTPUT_DIR``.

    Raises:
        UserError: neither is there.
    """
    if cfg.MODEL.WEIGHTS:
        return cfg.MODEL.WEIGHTS
    path = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    if not path.exists():
        raise UserError(
            f"no weights: MODEL.WEIGHTS is empty and {path} does not exist; train first, or give "
            "MODEL.WEIGHTS some/file.pth"
        )
    return os.fspath(path)


def _load(module: nn.Module, state: dict[str, Tensor], path: str) -> None:
    checkpoints.check_architecture(module.state_dict(), state, path, optional=decision_keys(module))
    # Not strict, since batch norm's counters may be absent (`check_architecture`).
    module.load_state_dict(state, strict=False)
