"""Command line of the training tools: options, choice of engine, checks shared by the engines."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dynbackbones.errors import UserError

ENGINES = ("detectron2", "torchvision")

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
_CHECKPOINTS = "*.pth"


def parser() -> argparse.ArgumentParser:
    """detectron2's command line for training tools, and ``--engine``."""
    options = argparse.ArgumentParser(
        description="Train or evaluate a detector with a dynamic backbone.",
        epilog="Example: train_net.py --config-file configs/demo/sar_retinanet.yaml SEED 1",
    )
    options.add_argument("--config-file", required=True, metavar="FILE", help="YAML config")
    options.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR"
    )
    options.add_argument(
        "--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS and train nothing"
    )
    options.add_argument(
        "--num-gpus", type=_at_least(1), default=1, help="processes per machine, one per GPU"
    )
    options.add_argument("--num-machines", type=_at_least(1), default=1)
    options.add_argument("--machine-rank", type=_at_least(0), default=0, help="of this machine")
    options.add_argument(
        "--dist-url",
        # A port per user, so that a second run says that the first one still lives.
        default=f"tcp://127.0.0.1:{2**15 + 2**14 + os.getuid() % 2**14}",
        help="where the processes meet",
    )
    options.add_argument(
        "--engine",
        choices=("auto", *ENGINES),
        default="auto",
        help="auto takes detectron2 where it is installed",
    )
    options.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config overrides, last"
    )
    return options


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


def has_checkpoints(output_dir: str | os.PathLike) -> bool:
    """Whether a folder holds checkpoints of a run."""
    folder = Path(output_dir)
    return (folder / "last_checkpoint").exists() or any(folder.glob(_CHECKPOINTS))


def check_output_folder(output_dir: str | os.PathLike, *, resume: bool) -> None:
    """Refuse to train over another run.

    Args:
        output_dir: ``OUTPUT_DIR`` of the config; made later, by the engine.
        resume: the run that lies there is the one to continue.

    Raises:
        UserError: the folder holds checkpoints and is not to be resumed, or is not a folder.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"OUTPUT_DIR {folder} is a file: name a folder")
    if not resume and has_checkpoints(folder):
        raise UserError(
            f"OUTPUT_DIR {folder} holds checkpoints of another run: continue it with --resume, "
            "or name another folder (OUTPUT_DIR some/folder at the end of the command)"
        )


def run(main: Callable[[], None]) -> None:
    """Call ``main``; a mistake of the user ends in one line and exit code 2.

    Errors of the program itself keep their traceback.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {_message(error)}", file=sys.stderr)
        sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line (default ``sys.argv``), choose an engine, train or evaluate."""
    args = parser().parse_args(arguments)
    engine, reason = choose_engine(args.engine)
    print(f"engine: {engine} ({reason})", flush=True)
    import torch

    if not torch.cuda.is_available():
        print("no CUDA device: using the CPU", flush=True)
    importlib.import_module(f"dynbackbones.integrations.{engine}.engine").main(args)


def _installed(module: str) -> bool:
    # A folder of that name in the working directory has a spec too, but no origin.
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def _message(error: UserError) -> str:
    """The one line of an error; data loader workers put their traceback before it."""
    lines = str(error).strip().splitlines() or [""]
    kind = type(error)
    return lines[-1].removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")


def _at_least(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return count
