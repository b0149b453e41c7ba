"""Loading MODEL.WEIGHTS into a detector of the torchvision engine."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from torch import nn

from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from dynbackbones.integrations.console import TO_CONSOLE
from dynbackbones.integrations.engine import naming_the_engine, trained_by
from dynbackbones.training.run_folder import FINAL_WEIGHTS


def load_weights(
    detector: nn.Module, path: str, logger: logging.Logger | None = None, *, whole: bool = False
) -> None:
    """Loads a checkpoint of the whole detector, or of its backbone alone.

    Args:
        detector: of `build_detector`.
        path: a local ``.pth`` file that `dynbackbones.load_weights` takes.
        logger: where to say what was loaded and what was left out.
        whole: the detector will not be trained: warn about a backbone alone, and refuse heads of
            other classes, which else start untrained.

    Raises:
        UserError: not a local file, not a checkpoint, or of another architecture.
    """
    logger = logger or logging.getLogger(__name__)
    if re.match(r"^[\w-]+://", path):
        raise UserError(
            f"MODEL.WEIGHTS {path} is not a local file: the torchvision engine downloads nothing; "
            "download it and give its path"
        )
    content = checkpoints.load(path)
    state = checkpoints.state_dict_of(content, f"checkpoint {path}")
    with naming_the_engine(content, path, "torchvision"):
        report = checkpoints.load_state(detector, state, path, allow_other_heads=not whole)
        if whole and not report.whole and trained_by(content) == "detectron2":
            raise UserError(f"checkpoint {path} has another detector's heads")
    for line in report.untrained():
        logger.warning(line)
    if whole and not report.whole:
        logger.warning(report.line("are not trained, and find nothing"), extra=TO_CONSOLE)
    else:
        logger.info(str(report), extra=TO_CONSOLE)


def weights_path(cfg) -> str:
    """``MODEL.WEIGHTS``, or the result of the run in ``OUTPUT_DIR``.

    Raises:
        UserError: neither is there.
    """
    if cfg.MODEL.WEIGHTS:
        return cfg.MODEL.WEIGHTS
    path = Path(cfg.OUTPUT_DIR) / FINAL_WEIGHTS
    if not path.exists():
        raise UserError(
            f"no weights: MODEL.WEIGHTS is empty and {path} does not exist; train first, or give "
            "MODEL.WEIGHTS some/file.pth"
        )
    return os.fspath(path)
