"""``MODEL.ZOOM`` of a YAML config: a wrapper that has its detector look closer where it pays."""

from __future__ import annotations

import hashlib
import inspect
import logging
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from dynbackbones.errors import UserError
from dynbackbones.integrations.console import TO_CONSOLE
from dynbackbones.zoom import ZoomDetector, load_policy

LEARNED = "learned"
# What YAML says where the constructor says None, since a value in YAML has a type.
_INSTEAD_OF_NONE = {"rate": 0.25, "handover": 0.0}
_OF_THE_CODE_ALONE = ("detector", "nms", "most", "adapter")
_logger = logging.getLogger(__name__)


def zoom_defaults() -> dict[str, Any]:
    """The options under ``MODEL.ZOOM``: those of `ZoomDetector`, and two of the config's own.

    ``ENABLED`` has evaluations zoom. ``POLICY`` may be ``learned`` too, with ``WEIGHTS`` of
    ``dynbackbones zoom train``. ``HANDOVER`` 0 is half a patch.
    """
    options = {"ENABLED": False, "WEIGHTS": ""}
    for name, parameter in inspect.signature(ZoomDetector).parameters.items():
        if name not in _OF_THE_CODE_ALONE:
            default = _INSTEAD_OF_NONE.get(name, parameter.default)
            options[name.upper()] = float(default) if name == "scale" else default
    return options


def keep_resolution(cfg: CfgNode) -> None:
    """Has a config that zooms give images to it as they are.

    Args:
        cfg: not frozen, changed in place.
    """
    if cfg.MODEL.ZOOM.ENABLED and cfg.INPUT.MIN_SIZE_TEST != 0:
        _logger.info(
            "MODEL.ZOOM: INPUT.MIN_SIZE_TEST 0 instead of %d, images keep their resolution",
            cfg.INPUT.MIN_SIZE_TEST,
        )
        cfg.INPUT.MIN_SIZE_TEST = 0


def build_zoom(cfg: CfgNode, detector: nn.Module, **instead: Any) -> ZoomDetector:
    """The wrapper that ``MODEL.ZOOM`` describes around a detector.

    Args:
        cfg: a config; whether it enables zoom does not matter here.
        detector: of the config.
        instead: arguments of `ZoomDetector` in the place of the config's.

    Raises:
        UserError: an option is out of range, or the policy does not fit.
    """
    node = cfg.MODEL.ZOOM
    options = {key.lower(): value for key, value in node.items()}
    del options["enabled"]
    weights = options.pop("weights")
    options["handover"] = options["handover"] or None
    if options["policy"] == LEARNED and "policy" not in instead:
        if not weights:
            raise UserError(
                "MODEL.ZOOM.POLICY learned needs MODEL.ZOOM.WEIGHTS of dynbackbones zoom train"
            )
        options["policy"] = load_policy(weights)
    elif weights and "policy" not in instead:
        raise UserError(
            f"MODEL.ZOOM.WEIGHTS {weights} has no effect with MODEL.ZOOM.POLICY "
            f"{options['policy']}; set it to learned"
        )
    elif options["policy"] in ("all", "none"):
        options["rate"] = None
    try:
        return ZoomDetector(detector, **{**options, **instead})
    except ValueError as error:
        raise UserError(f"MODEL.ZOOM: {error}") from error


def zoom_of_run(cfg: CfgNode, detector: nn.Module) -> ZoomDetector | None:
    """What the evaluations of a run zoom with, and a line about it; None where they do not."""
    if not cfg.MODEL.ZOOM.ENABLED:
        return None
    zoom = build_zoom(cfg, detector)
    logging.getLogger("dynbackbones").info(zoom.detail, extra=TO_CONSOLE)
    return zoom


def settings_of(cfg: CfgNode) -> dict[str, Any]:
    """What gains, and a policy that is trained on them, depend on."""
    node = cfg.MODEL.ZOOM
    return {
        "patch": int(node.PATCH),
        "scale": float(node.SCALE),
        "halo": int(node.HALO),
        "model_scale": float(node.DETECTOR_SCALE),
    }


def detector_settings(cfg: CfgNode) -> dict[str, Any]:
    """What else of a config the detections of a file of weights depend on."""
    model = cfg.MODEL.clone()
    model.defrost()
    for name in ("ZOOM", "WEIGHTS", "DEVICE"):
        model.pop(name, None)
    return {
        "format": str(cfg.INPUT.FORMAT),
        "pixel_mean": [float(value) for value in cfg.MODEL.PIXEL_MEAN],
        "pixel_std": [float(value) for value in cfg.MODEL.PIXEL_STD],
        "detections": int(cfg.TEST.DETECTIONS_PER_IMAGE),
        "model": hashlib.sha256(model.dump().encode()).hexdigest()[:16],
    }
