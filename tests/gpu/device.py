"""Where the tests that are marked ``cuda`` and the steps of ``make check-gpu`` run."""

from __future__ import annotations

import os

import torch

VARIABLE = "GPU_CHECK_DEVICE"


def device() -> torch.device | None:
    """The CUDA device, or None without one.

    ``GPU_CHECK_DEVICE=cpu`` tries the tests themselves where there is none; that proves nothing
    about CUDA.
    """
    if VARIABLE in os.environ:
        return torch.device(os.environ[VARIABLE])
    return torch.device("cuda") if torch.cuda.is_available() else None
