"""Which framework does the work, and whether it is installed."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from dynbackbones.integrations.engine import ENGINES, Engine, import_engine, trained_by

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode

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


def open_engine(
    requested: str,
    config_file: str,
    opts: Sequence[str],
    weights_of: Callable[[CfgNode], str | None],
) -> tuple[str, Engine, CfgNode]:
    """Chooses an engine, prints which and why, and has it read a config.

    Args:
        requested: see `choose_engine`; ``auto`` follows the weights.
        config_file, opts: see `Engine.setup`.
        weights_of: the trained detector that a config is about, a file; None if it is about none.

    Raises:
        UserError: see `choose_engine` and `Engine.setup`.
    """
    engine, reason = choose_engine(requested)
    print(f"engine: {engine} ({reason})", flush=True)
    adapter = import_engine(engine)
    cfg = adapter.setup(config_file, opts)
    file = weights_of(cfg) if requested == "auto" else None
    if not file or not os.path.isfile(file):
        return engine, adapter, cfg
    other = trained_by(checkpoints.load(file))
    if other in (None, engine) or not all(map(_installed, _REQUIREMENTS[other][0])):
        return engine, adapter, cfg
    print(f"engine: {other} ({file} is of it)", flush=True)
    adapter = import_engine(other)
    return other, adapter, adapter.setup(config_file, opts)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config-file`` and ``--engine``, of commands about a trained detector."""
    parser.add_argument("--config-file", required=True, metavar="FILE", help="YAML config")
    add_engine_option(parser)


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--engine``."""
    parser.add_argument(
        "--engine",
        choices=("auto", *ENGINES),
        default="auto",
        help="auto takes that of the weights, else detectron2 where it is installed",
    )


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
