"""What a check ran on: card, driver, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "torchvision": ("torchvision",),
    "triton": ("triton",),
    "numpy": ("numpy",),
    "mmengine": ("onedl-mmengine", "mmengine"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation"),
    "mmpretrain": ("onedl-mmpretrain", "mmpretrain"),
    "detectron2": ("detectron2",),
}


def missing() -> str | None:
    """Why there is nothing to check on, in a line; None if there is."""
    try:
        import torch
    except ImportError as error:
        return f"check-gpu needs PyTorch: {error}"
    if not torch.cuda.is_available():
        return f"check-gpu needs a CUDA device, and PyTorch {torch.__version__} finds none"
    return None


def describe(device: str) -> dict[str, str]:
    """Names and versions.

    Args:
        device: ``"cuda"``, or ``"cpu"`` where steps are only tried.
    """
    import torch

    found = {"device": "a CPU: nothing below says anything about CUDA"}
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        found = {
            "device": card.name,
            "memory": f"{card.total_memory / 2**30:.0f} GiB",
            "compute capability": f"{card.major}.{card.minor}",
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
            "NCCL": ".".join(map(str, torch.cuda.nccl.version())),
        }
    found |= {"torch": torch.__version__, "Python": platform.python_version()}
    for name, distributions in PACKAGES.items():
        version = next(filter(None, map(_version, distributions)), None)
        if version:
            found[name] = version
    # A checkout that was copied may have left its history behind.
    commit = os.environ.get("GIT_COMMIT") or _output("git", "-C", str(ROOT), "rev-parse", "HEAD")
    return found | {"commit": commit[:12] or "unknown"}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str:
    """The first line that a command prints; empty if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.splitlines() or [""])[0] if done.returncode == 0 else ""
