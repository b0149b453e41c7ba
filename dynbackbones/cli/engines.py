"""Which framework does the work, and whether it is installed."""

from __future__ import annotations

import importlib.util

from dynbackbones.errors import UserError

# What an engine needs, and how to get it.
_REQUIREMENTS = {
    "detectron2": (
        ("detectron2",),
        "install it from its repository (it is not on PyPI), or use --engine torchvision",
    ),
    "torchvision": (
        ("torchvision", "mmengine", "cv2", "pycocotools", "tensorboard"),
        "run: pip install 'dynbackbones[detection]'",
    ),
    "openmmlab": (("mmengine", "cv2"), "run: pip install 'dynbackbones[openmmlab]'"),
}


def choose_engine(requested: str) -> tuple[str, str]:
    """The engine to use and the reason, without importing any framework.

    Args:
        requested: ``auto``, ``detectron2`` or ``torchvision``.

    Raises:
        UserError: what the engine needs is not installed.
    """
    if requested == "auto":
        if _installed("detectron2"):
            return "detectron2", "it is installed"
        engine, reason = "torchvision", "detectron2 is not installed"
    else:
        engine, reason = requested, "--engine says so"
    check_installed(engine)
    return engine, reason


def check_installed(engine: str) -> None:
    """Look for what an engine needs, without importing any of it.

    Args:
        engine: ``detectron2``, ``torchvision`` or ``openmmlab``.

    Raises:
        UserError: something is not installed.
    """
    modules, remedy = _REQUIREMENTS[engine]
    missing = [name for name in modules if not _installed(name)]
    if missing:
        raise UserError(f"engine {engine} needs {', '.join(missing)}: {remedy}")


def _installed(module: str) -> bool:
    # A folder of that name in the working directory has a spec too, but no origin.
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None
